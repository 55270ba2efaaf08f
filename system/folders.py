"""Folders for the files that fedrad's programs write for this user."""

import os
from pathlib import Path

PRIVATE_FOLDER = 0o700
"""Permissions of a folder that only the user who runs fedrad may open."""


def make_folder(path: Path) -> None:
    """Make a folder for this user alone (mode 700), and those above it that are missing.

    A folder that exists stays as it is. `Path.mkdir` gives its mode to the last folder only; the
    ones above it would be open to all users.

    Raises
    ------
    OSError
        If it cannot be made, or `path` is a file.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in (*reversed(missing), path):
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def state_home() -> Path:
    """Folder for state: `$XDG_STATE_HOME/fedrad`, else `~/.local/state/fedrad`."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / "fedrad"


def cache_home() -> Path:
    """Folder for replaceable files: `$XDG_CACHE_HOME/fedrad`, else `~/.cache/fedrad`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "fedrad"
