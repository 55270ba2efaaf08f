"""Pictures of a few files, read by the same chain as cohorts but not cached."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrad.models.settings import InputSettings

from .lungs import pspnet_weights_for
from .reading import Reading
from .single_file import read_file
from .worker_processes import Failure, run_isolated


def read_pictures(
    files: Sequence[str], settings: InputSettings
) -> tuple[list[Reading], dict[int, NDArray[np.float16]]]:
    """Readings of all files in their order, and the pictures (S, S) of the usable ones by position.

    Raises SiteProblem("weights") as `pspnet_weights_for` does.
    """
    pspnet = pspnet_weights_for(settings)
    readings = [Reading("")] * len(files)
    pictures: dict[int, NDArray[np.float16]] = {}
    items = [(str(Path(file).absolute()), settings, pspnet) for file in files]
    for item, result in run_isolated(read_file, items):
        if isinstance(result, Failure):
            readings[item] = Reading("", unusable=result.reason)
            continue
        readings[item], picture = result
        if picture is not None:
            pictures[item] = np.frombuffer(picture, np.float16).reshape(2 * (settings.size,))
    return readings, pictures
