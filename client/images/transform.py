"""The reading chain as a MONAI transform, for the bundle that `fedrad export` writes."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform

from fedrad.models.settings import READING_CHAIN, InputSettings

from .lungs import pspnet_weights_for
from .reading import UnusableImage
from .single_file import read_file


class ReadRadiographd(MapTransform):  # type: ignore[misc]
    """Reads a file name into a picture (1, size, size) float32 in [-1024, 1024], as sites do.

    Parameters
    ----------
    keys
        Keys of the data whose values are file names.
    size, fit, region
        As in the experiment's `[model]`.
    chain
        Version of the reading chain with which the model was trained.

    Raises
    ------
    ValueError
        If `chain` is not the installed version.
    SiteProblem
        If `region` needs weights that are missing.
    UnusableImage
        When called, for a file that cannot be used as a radiograph.
    """

    def __init__(
        self,
        keys: str,
        *,
        size: int,
        fit: Literal["pad", "crop"],
        region: Literal["whole", "lungs", "lungs-pspnet"],
        chain: int,
    ) -> None:
        super().__init__(keys)
        if chain != READING_CHAIN:
            raise ValueError(
                f"the model was trained with version {chain} of the reading chain, the installed "
                f"fedrad has {READING_CHAIN}: install the fedrad that the bundle's metadata names"
            )
        self.settings = InputSettings(size=size, fit=fit, region=region)
        self.pspnet = pspnet_weights_for(self.settings)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read the file under each key. The picture's metadata holds the file name."""
        done = dict(data)
        for key in self.key_iterator(done):
            file, size = str(done[key]), self.settings.size
            reading, picture = read_file(file, self.settings, self.pspnet)
            if picture is None:
                raise UnusableImage(f"{Path(file).name}: {reading.unusable}")
            values = torch.frombuffer(bytearray(picture), dtype=torch.float16)
            done[key] = MetaTensor(
                values.reshape(1, size, size).float(), meta={"filename_or_obj": file}
            )
        return done
