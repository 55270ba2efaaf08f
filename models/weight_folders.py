"""Folders in which files of weights are searched. Imports no library, so any module may use it."""

import os
from pathlib import Path

from fedrad.system.folders import cache_home, home

VARIABLE = "FEDRAD_WEIGHTS"


def weight_folders() -> list[Path]:
    """Folders in which weights are searched: those of $FEDRAD_WEIGHTS (separated as in PATH), then
    the user's cache."""
    named = [Path(p) for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p]
    return [*named, cache_folder()]


def add_weight_folder(folder: Path) -> None:
    """Search weights in this folder first, in this process and its children."""
    named = [str(folder.resolve()), os.environ.get(VARIABLE, "")]
    os.environ[VARIABLE] = os.pathsep.join(filter(None, named))


def cache_folder() -> Path:
    """Folder of downloaded weights: `$XDG_CACHE_HOME/fedrad/weights`."""
    return cache_home() / "weights"


def torchxrayvision_folder() -> Path:
    """Folder in which torchxrayvision stores the weights that it downloads."""
    return home() / ".torchxrayvision" / "models_data"
