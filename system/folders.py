"""Folders for the files that fedrad's programs write for this user."""

import os
from pathlib import Path


def state_home() -> Path:
    """Folder for state: `$XDG_STATE_HOME/fedrad`, else `~/.local/state/fedrad`."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / "fedrad"


def cache_home() -> Path:
    """Folder for replaceable files: `$XDG_CACHE_HOME/fedrad`, else `~/.cache/fedrad`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "fedrad"
