"""Folders for the files that fedrad's programs write for this user."""

import os
from pathlib import Path

from .errors import UserError

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


class NoHomeError(UserError):
    """There is no place for a user's files. The text says how to name one."""


def home() -> Path:
    """This user's home folder. Raises NoHomeError for a user without one, as containers run."""
    try:
        folder = Path.home() if os.environ.get("HOME") != "" else None
    except RuntimeError:
        folder = None
    if folder is None or not folder.is_absolute():
        raise NoHomeError(
            f"user {os.geteuid()} has no home folder to write to: name a folder as `state` in "
            "site.toml (a coordinator: with --coordinator), or set XDG_STATE_HOME and "
            "XDG_CACHE_HOME, or HOME"
        )
    return folder


def state_home() -> Path:
    """Folder for state: `$XDG_STATE_HOME/fedrad`, else `~/.local/state/fedrad`."""
    return _folder_of_variable("XDG_STATE_HOME", ".local/state")


def cache_home() -> Path:
    """Folder for replaceable files: `$XDG_CACHE_HOME/fedrad`, else `~/.cache/fedrad`."""
    return _folder_of_variable("XDG_CACHE_HOME", ".cache")


def _folder_of_variable(variable: str, default: str) -> Path:
    if not (named := os.environ.get(variable)):
        return home() / default / "fedrad"
    if not Path(named).is_absolute():  # XDG calls it invalid; another place would be a surprise
        raise NoHomeError(f"{variable} is {named!r}: write the folder from / on")
    return Path(named) / "fedrad"
