"""What the checks look at: the table, what is known of each file, and small pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fedrad.client.images import Reading

from .copies import Copy, find_copies
from .division import Division
from .patients import numbered
from .table import Row, Table

SIDE = 64
"""Side of the thumbnails that checks work on."""
CHUNK = 256


class Pictures(Protocol):
    """(n, S, S) float16 in [-1024, 1024], read by rows."""

    def __len__(self) -> int:
        """Number of pictures."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float16]:
        """Some of them."""


@dataclass(frozen=True)
class Evidence:
    """A cohort as it was read.

    `rows`, `readings` and `thumbnails` (n, SIDE, SIDE) uint8: the images that can be used. `units`:
    which of them are scored, by the index rule. `parts`: of the units (rows of `units`), where an
    experiment divides them; with `cross_validated` they are those of one of several trainings.
    `set_aside`: file -> reason, of `files` files in all. `minimum`: fewest units of a class about
    which figures are released.
    """

    table: Table
    rows: list[Row]
    readings: list[Reading]
    thumbnails: NDArray[np.uint8]
    units: NDArray[np.int64]
    set_aside: dict[str, str]
    files: int
    tolerance: float
    minimum: int
    parts: Division = field(default_factory=dict)
    cross_validated: bool = False

    @cached_property
    def labels(self) -> NDArray[np.float64]:
        """Of the rows, (n, outcomes); NaN unknown."""
        return np.array([row.labels for row in self.rows], float).reshape(len(self.rows), -1)

    @cached_property
    def patients(self) -> NDArray[np.int64]:
        """Whose each row is, (n,) from 0."""
        return numbered(row.patient for row in self.rows)

    @cached_property
    def copies(self) -> list[Copy]:
        """Pairs of rows that show the same image."""
        return find_copies(self.readings, self.thumbnails)

    def column(self, name: str) -> list[str]:
        """A further column of the table, "" where there is none."""
        return [row.values.get(name, "") for row in self.rows]


def thumbnails(pictures: Pictures, rows: Sequence[int]) -> NDArray[np.uint8]:
    """Pictures reduced to (n, SIDE, SIDE), 0 black to 255 white, some hundred at a time."""
    small = np.zeros((len(rows), SIDE, SIDE), np.uint8)
    for start in range(0, len(rows), CHUNK):
        chosen = np.array(rows[start : start + CHUNK], dtype=np.int64)
        small[start : start + len(chosen)] = reduced(pictures[chosen], SIDE)
    return small


def reduced(pictures: NDArray[np.float16], side: int) -> NDArray[np.uint8]:
    """(n, S, S) in [-1024, 1024] to (n, side, side) in 0 to 255, with antialiasing."""
    given = torch.from_numpy(pictures.astype(np.float32))[:, None]
    small = functional.interpolate(
        given, size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )[:, 0]
    return ((small + 1024) * (255 / 2048)).round().clamp(0, 255).to(torch.uint8).numpy()
