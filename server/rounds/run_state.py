"""Whether a run works on an experiment, and how far it is: what `fedrad status` and `stop` need.

The commands answer at once, so nothing here imports tensors or figures.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fedrad.system.files import is_locked, locked


class Standing(BaseModel):
    """How far an experiment is: the part of `progress.json` that is read without tensors."""

    status: str
    why: str | None
    rounds: list[Any]
    """One entry for each finished round."""


class RunState:
    """The folder `checkpoint` of an experiment, as seen from outside the run.

    One run at a time works on an experiment: it holds a lock in this folder, which the
    operating system takes from a process that ends, however it ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress_file = folder / "progress.json"
        self.stop_file = folder / "stop"
        """Exists once somebody has asked the run to stop."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no other run work here meanwhile. Raises BlockingIOError if one does already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.progress_file, wait=False):
            self.stop_file.unlink(missing_ok=True)
            yield

    def is_held(self) -> bool:
        """Whether a run is at work."""
        return is_locked(self.progress_file)

    def standing(self) -> Standing | None:
        """How far the experiment is; None before its first checkpoint."""
        if not self.progress_file.is_file():
            return None
        return Standing.model_validate_json(self.progress_file.read_text(encoding="utf-8"))
