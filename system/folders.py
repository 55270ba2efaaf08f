"""Where programs of this user keep what is theirs."""

import os
from pathlib import Path


def state_home() -> Path:
    """State of fedrad's programs: `$XDG_STATE_HOME/fedrad`, else `~/.local/state/fedrad`."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / "fedrad"


def cache_home() -> Path:
    """What can be fetched or made again: `$XDG_CACHE_HOME/fedrad`, else `~/.cache/fedrad`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "fedrad"
