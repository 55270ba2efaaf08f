"""Checked updates of an open round, on disk: memory stays flat, and a crash loses none."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedrad.exchange.encoding import Flat
from fedrad.server.results.summary import SiteRound
from fedrad.system.files import replacing, write_whole


class OnDisk:
    """Values (size,) float32 of a file, a part at a time. Mapped for that part only: what a
    mapping has shown stays in memory until it is let go, for 32 sites' ResNet-50 3 GB."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        """How many values."""
        return len(self._mapped())

    def __getitem__(self, part: slice) -> Flat:
        """A copy of some."""
        return np.array(self._mapped()[part])

    def _mapped(self) -> Flat:
        values: Flat = np.load(self._path, mmap_mode="r")
        return values


@dataclass(frozen=True)
class Spooled:
    """An update on disk: decoded values (size,) float32 in the manifest's order, its weight, and
    what is known of the site in this round."""

    path: Path
    weight: float
    site: SiteRound

    @property
    def values(self) -> OnDisk:
        """The values, read when they are asked for."""
        return OnDisk(self.path)


class Spool:
    """The updates of one round, one file and a note a site.

    `start`: hash of the values that sites trained from; what was spooled for others is not taken
    up again.
    """

    def __init__(self, folder: Path, round_: int, start: str) -> None:
        self.folder = folder / f"round-{round_:05}"
        self.start = start
        self.updates: dict[str, Spooled] = {}
        for note in sorted(self.folder.glob("*.json")):
            kept = json.loads(note.read_text(encoding="utf-8"))
            if kept["start"] == start:
                site = SiteRound.model_validate(kept["site"])
                self.updates[note.stem] = Spooled(note.with_suffix(".npy"), kept["weight"], site)

    def add(self, name: str, values: Flat, weight: float, site: SiteRound) -> None:
        """Write an update; its note comes last and makes it count."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.npy"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, values)
        note = {"start": self.start, "weight": weight, "site": site.model_dump(mode="json")}
        write_whole(path.with_suffix(".json"), json.dumps(note))
        self.updates[name] = Spooled(path, weight, site)

    def drop(self, name: str) -> None:
        """Forget an update."""
        update = self.updates.pop(name)
        update.path.with_suffix(".json").unlink(missing_ok=True)
        update.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove this round's and all earlier rounds' files."""
        for folder in self.folder.parent.glob("round-*"):
            if folder.name <= self.folder.name:
                shutil.rmtree(folder)
