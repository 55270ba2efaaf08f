"""Whether an experiment is running, and its progress, for `fedrad status` and `fedrad stop`.

This module imports neither tensors nor figures, so that these commands answer at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from fedrad.system.errors import UserError
from fedrad.system.files import JsonFile, UnreadableFileError, is_locked, locked
from fedrad.system.folders import make_folder

M = TypeVar("M", bound=BaseModel)


class ProgressError(UserError):
    """`progress.json` is damaged; the text says what to do."""


class ProgressHead(BaseModel):
    """The fields of `progress.json` that commands show."""

    status: str
    why: str | None
    rounds: list[Any]
    """One entry per completed round."""


class RunState:
    """The folder `checkpoint` of an experiment, as seen from outside the run.

    A run holds a lock in this folder, so that no second run works on the same experiment. The
    operating system releases the lock when the process ends, also after a crash.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress_file = folder / "progress.json"
        self.stop_file = folder / "stop"
        """Exists if the run was asked to stop."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the run. Raises BlockingIOError if another run holds it."""
        make_folder(self.folder)
        with locked(self.progress_file, wait=False):
            self.stop_file.unlink(missing_ok=True)
            yield

    def is_running(self) -> bool:
        """Whether a run holds the lock."""
        return is_locked(self.progress_file)

    def progress_head(self) -> ProgressHead | None:
        """Read the progress; None before the first checkpoint. Raises ProgressError."""
        return self._read(ProgressHead)

    def _read(self, kind: type[M]) -> M | None:
        try:
            return JsonFile(self.progress_file, kind).read()
        except UnreadableFileError as error:
            raise ProgressError(
                f"{error}; restore it from a backup, or run the experiment into a new folder"
            ) from None
