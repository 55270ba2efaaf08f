"""Folders in which files of weights are looked for. Imports no library, so that any module may."""

import os
from pathlib import Path

from fedrad.system.folders import cache_home

VARIABLE = "FEDRAD_WEIGHTS"


def weight_folders() -> list[Path]:
    """Folders in which weights are looked for: those of $FEDRAD_WEIGHTS (separated as in PATH),
    then the user's cache."""
    named = [Path(p) for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p]
    return [*named, cache_folder()]


def add_weight_folder(folder: Path) -> None:
    """Look for weights in a folder too, before all others, in this process and its children."""
    named = [str(folder.resolve()), os.environ.get(VARIABLE, "")]
    os.environ[VARIABLE] = os.pathsep.join(filter(None, named))


def cache_folder() -> Path:
    """Where fetched weights are kept: `$XDG_CACHE_HOME/fedrad/weights`."""
    return cache_home() / "weights"


def torchxrayvision_folder() -> Path:
    """Where torchxrayvision itself keeps the weights that it fetched."""
    return Path.home() / ".torchxrayvision" / "models_data"
