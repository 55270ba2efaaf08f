"""The spool: checked updates of a round on disk. It bounds memory, and a crash loses no update."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedrad.exchange.encoding import Flat
from fedrad.server.results.summary import SiteRound
from fedrad.system.files import replacing, write_whole


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
    """

    def __init__(self, folder: Path, round_: int, start: str) -> None:
        self.folder = folder / f"round-{round_:05}"
        self.start = start
        self.updates: dict[str, SpooledUpdate] = {}
        for note in sorted(self.folder.glob("*.json")):
            content = json.loads(note.read_text(encoding="utf-8"))
            if content["start"] == start:
                site = SiteRound.model_validate(content["site"])
                self.updates[note.stem] = SpooledUpdate(
                    note.with_suffix(".npy"), content["weight"], site
                )

    def add(self, name: str, values: Flat, weight: float, site: SiteRound) -> None:
        """Write an update. Its note is written last; without a note the update does not count."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.npy"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, values)
        note = {"start": self.start, "weight": weight, "site": site.model_dump(mode="json")}
        write_whole(path.with_suffix(".json"), json.dumps(note))
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
