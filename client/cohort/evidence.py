"""The data that the checks examine: the table, the reading of each file, and thumbnails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fedrad.client.images import Reading
from fedrad.exchange.experiment import Groups

from .copies import Copy, find_copies
from .division import Division
from .order import IndexRule
from .patients import patient_numbers
from .table import CohortRow, CohortTable

THUMBNAIL_SIDE = 64
"""Side of the thumbnails that checks work on, pixels."""
CHUNK = 256


class Pictures(Protocol):
    """(n, S, S) float16 in [-1024, 1024], read by rows."""

    def __len__(self) -> int:
        """Number of pictures."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float16]:
        """The pictures of some rows."""


@dataclass(frozen=True)
class Evidence:
    """A cohort as it was read.

    Attributes
    ----------
    table
        The cohort table.
    rows, readings, thumbnails
        The n usable images: their rows in the table, their readings, and their pictures
        (n, THUMBNAIL_SIDE, THUMBNAIL_SIDE).
    units
        Positions in `rows` of the images that are scored, by the index rule.
    set_aside
        File -> reason why it cannot be used.
    files
        Number of files in the table.
    rule
        The rule that chose the images that are scored.
    unordered
        Images of patients who are left out because their order is unknown, with the reason.
    tolerance
        Largest share of files that may be set aside.
    minimum
        Fewest units of a class about which figures are released.
    groups
        Column -> its groups, for which the experiment asks for figures.
    parts
        Part -> positions in `units`; empty without an experiment.
    cross_validated
        Whether `parts` are those of one training of a cross-validation.
    """

    table: CohortTable
    rows: list[CohortRow]
    readings: list[Reading]
    thumbnails: NDArray[np.uint8]
    units: NDArray[np.int64]
    set_aside: dict[str, str]
    files: int
    tolerance: float
    minimum: int
    rule: IndexRule = "earliest"
    unordered: dict[str, str] = field(default_factory=dict)
    groups: Mapping[str, Groups] = field(default_factory=dict)
    parts: Division = field(default_factory=dict)
    cross_validated: bool = False

    @cached_property
    def labels(self) -> NDArray[np.float64]:
        """Labels of the rows, (n, outcomes); NaN if unknown."""
        return np.array([row.labels for row in self.rows], float).reshape(len(self.rows), -1)

    @cached_property
    def patients(self) -> NDArray[np.int64]:
        """Number of the patient of each row, (n,), from 0."""
        return patient_numbers(row.patient for row in self.rows)

    @cached_property
    def copies(self) -> list[Copy]:
        """Pairs of rows that show the same image."""
        return find_copies(self.readings, self.thumbnails)

    def column(self, name: str) -> list[str]:
        """Values of a further column of the table, "" if the table does not have it."""
        return [row.values.get(name, "") for row in self.rows]


def thumbnails(pictures: Pictures, rows: Sequence[int]) -> NDArray[np.uint8]:
    """Thumbnails of some rows, (n, THUMBNAIL_SIDE, THUMBNAIL_SIDE), 0 black to 255 white."""
    small = np.zeros((len(rows), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    for start in range(0, len(rows), CHUNK):
        chosen = np.array(rows[start : start + CHUNK], dtype=np.int64)
        small[start : start + len(chosen)] = downsample(pictures[chosen], THUMBNAIL_SIDE)
    return small


def downsample(pictures: NDArray[np.float16], side: int) -> NDArray[np.uint8]:
    """Downsample (n, S, S) in [-1024, 1024] to (n, side, side) in 0 to 255, with antialiasing."""
    full = torch.from_numpy(pictures.astype(np.float32))[:, None]
    small = functional.interpolate(
        full, size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )[:, 0]
    return ((small + 1024) * (255 / 2048)).round().clamp(0, 255).to(torch.uint8).numpy()
