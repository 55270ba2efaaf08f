"""The spool: checked updates of a round on disk. It bounds memory, and a crash loses no update."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedrad.exchange.encoding import Flat
from fedrad.server.results.summary import SiteRound
from fedrad.system.files import JsonFile, UnreadableFileError, replacing
from fedrad.system.folders import make_folder


class ValuesOnDisk:
    """Values (size,) float32 of a file, read in slices.

    The file is mapped anew for each slice: pages that were read stay in memory until the mapping
    ends, 3 GB for a ResNet-50 of 32 sites.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        """Number of values."""
        return len(self._mapped())

    def __getitem__(self, part: slice) -> Flat:
        """A copy of a slice of the values."""
        return np.array(self._mapped()[part])

    def _mapped(self) -> Flat:
        values: Flat = np.load(self._path, mmap_mode="r")
        return values


class SpoolNote(BaseModel):
    """The note of an update: hash of the values it was trained from, weight and record."""

    start: str
    weight: float
    site: SiteRound


@dataclass(frozen=True)
class SpooledUpdate:
    """An update on disk.

    Attributes
    ----------
    path
        File of the decoded values, (size,) float32, in the order of the manifest.
    weight
        Weight of the site in the mean.
    site
        Record of the site in this round.
    """

    path: Path
    weight: float
    site: SiteRound

    @property
    def values(self) -> ValuesOnDisk:
        """The values, which are read when they are used."""
        return ValuesOnDisk(self.path)


class Spool:
    """The updates of one round: per site a file of values and a note (JSON).

    Updates of an interrupted run are used again if they were trained from the same values.

    Parameters
    ----------
    folder
        Folder of all rounds.
    round_
        Number of the round, from 0.
    start
        Hash of the values that sites train from.

    Raises
    ------
    UnreadableFileError
        If a note of this round cannot be read.
    """

    def __init__(self, folder: Path, round_: int, start: str) -> None:
        self.folder = folder / f"round-{round_:05}"
        self.start = start
        self.updates: dict[str, SpooledUpdate] = {}
        for file in sorted(self.folder.glob("*.json")):
            try:
                note = JsonFile(file, SpoolNote).read()
            except UnreadableFileError as error:
                raise UnreadableFileError(
                    f"{error}: remove it, then `fedrad resume`; the site repeats this round"
                ) from error
            if note is not None and note.start == start:
                update = SpooledUpdate(file.with_suffix(".npy"), note.weight, note.site)
                self.updates[file.stem] = update

    def add(self, name: str, values: Flat, weight: float, site: SiteRound) -> None:
        """Write an update. Its note is written last; without a note the update does not count."""
        make_folder(self.folder)
        path = self.folder / f"{name}.npy"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, values)
        note = SpoolNote(start=self.start, weight=weight, site=site)
        JsonFile(path.with_suffix(".json"), SpoolNote).write(note)
        self.updates[name] = SpooledUpdate(path, weight, site)

    def drop(self, name: str) -> None:
        """Delete an update."""
        update = self.updates.pop(name)
        update.path.with_suffix(".json").unlink(missing_ok=True)
        update.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the files of this and all earlier rounds."""
        for folder in self.folder.parent.glob("round-*"):
            if folder.name <= self.folder.name:
                shutil.rmtree(folder)
