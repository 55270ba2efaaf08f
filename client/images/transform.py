"""The reading chain as a MONAI transform, for the bundle that `fedrad export` writes."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform

from fedrad.models.settings import READING_CHAIN, InputSettings

from .lungs import weights_for
from .reading import UnusableImage
from .single_file import read_file


class ReadRadiographd(MapTransform):  # type: ignore[misc]
    """File name -> picture (1, size, size) float32 in [-1024, 1024], as at every site.

    `chain`: version of the reading chain that the model was trained with. Raises ValueError where
    it is not the installed one; SiteProblem where `region` needs weights that are not at hand;
    UnusableImage, at reading, for a file that is no radiograph.
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
        self.pspnet = weights_for(self.settings)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read the file under each key; its name stays in the picture's metadata."""
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
