"""Histograms of scores: all that the coordinator learns about single scores of a site.

Scores are logits. All sites count them in the cells of one fixed grid; then each site merges
neighbouring cells until every bin holds a minimum number of patients. So no score is known more
finely than a grid cell, and none is alone in its bin. Sites release different bins of the same
grid, and figures over two such histograms have a known error bound (`fedrad.stats`).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from .wire import Wire

LIMIT = 30.0
"""Logits are clipped to ±30; probabilities saturate long before that."""
CELLS = 128

GRID: NDArray[np.float64] = np.sinh(np.linspace(-np.arcsinh(LIMIT), np.arcsinh(LIMIT), CELLS + 1))
GRID[0], GRID[-1] = -LIMIT, LIMIT  # sinh(arcsinh(30)) is a hair less
"""Edges of the cells: narrow around a logit of 0 (0.064 wide) and wider towards the limits
(1.9 wide)."""


PATIENT_CELLS = 2
"""Number of counts of a histogram that change by one if a patient is replaced by another. Noise
that costs ε therefore has P(k) ∝ exp(-ε·|k|/2)."""
BinCount = Annotated[int, Field(ge=-(10**9), le=10**9)]


class Histogram(Wire):
    """Counts of positives and negatives in bins of the grid.

    Bin b covers the cells from `edges[b]` up to, but not including, `edges[b + 1]`; together the
    bins cover the whole grid. Counts are numbers of units. Only counts that carry noise (`noisy`)
    may be negative.
    """

    edges: list[Annotated[int, Field(ge=0, le=CELLS)]] = Field(min_length=2, max_length=CELLS + 1)
    positives: list[BinCount] = Field(max_length=CELLS)
    negatives: list[BinCount] = Field(max_length=CELLS)
    noisy: bool = False

    @model_validator(mode="after")
    def _is_a_histogram(self) -> "Histogram":
        if self.edges[0] != 0 or self.edges[-1] != CELLS:
            raise ValueError(f"edges must run from 0 to {CELLS}")
        if any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must rise")
        if not len(self.positives) == len(self.negatives) == len(self.edges) - 1:
            raise ValueError("one count of each class per bin")
        if not self.noisy and min(*self.positives, *self.negatives, 0) < 0:
            raise ValueError("counts cannot be negative")
        return self

    @property
    def total_positives(self) -> int:
        """Number of positives."""
        return sum(self.positives)

    @property
    def total_negatives(self) -> int:
        """Number of negatives."""
        return sum(self.negatives)


def clip_negative_counts(histogram: Histogram) -> Histogram:
    """Set the negative counts of a noisy histogram to 0; the result is marked as not noisy."""
    return Histogram(
        edges=histogram.edges,
        positives=[max(0, n) for n in histogram.positives],
        negatives=[max(0, n) for n in histogram.negatives],
    )


def grid_cells(logits: ArrayLike) -> NDArray[np.int64]:
    """Cell of the grid for each logit, 0 … CELLS - 1; outermost for logits beyond the limit."""
    cells = np.searchsorted(GRID, np.asarray(logits, float), side="right") - 1
    return np.asarray(np.clip(cells, 0, CELLS - 1), dtype=np.int64)


def count_in_bins(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    minimum_bin: int,
    patients: NDArray[np.int64] | None = None,
    at: Sequence[int] = (),
    allowed: Callable[[int], bool] = lambda edge: True,
) -> Histogram:
    """Histogram of a site's scores whose bins each hold enough patients.

    Parameters
    ----------
    logits
        (n,) scores of the units.
    labels
        (n,) outcomes, in {0, 1}.
    minimum_bin
        Smallest number of patients in a bin. With fewer patients in all there is one bin.
    patients
        (n,) number of the patient of each unit; None where each unit is another patient.
    at
        Preferred edges, most important first. An edge is used if the parts on both of its sides,
        up to the next preferred edge in use, hold `minimum_bin` patients or none.
    allowed
        Whether an edge may be used at all.
    """
    labels, cells = np.asarray(labels, float), grid_cells(logits)
    patient_of = np.arange(len(cells)) if patients is None else patients

    def enough(low: int, high: int) -> bool:
        number = len(np.unique(patient_of[(cells >= low) & (cells < high)]))
        return number == 0 or number >= minimum_bin

    fixed = [0, CELLS]
    for preferred in at:
        tried = sorted({*fixed, preferred})
        if all(enough(low, high) for low, high in pairwise(tried)) and allowed(preferred):
            fixed = tried
    edges = [0]
    for low, high in pairwise(fixed):
        inside = _edges_between(cells, patient_of, low, high, minimum_bin, allowed)
        edges += [*inside, high]
    positives = np.bincount(cells[labels == 1], minlength=CELLS)
    negatives = np.bincount(cells[labels == 0], minlength=CELLS)
    return Histogram(
        edges=edges,
        positives=np.add.reduceat(positives, edges[:-1]).tolist(),
        negatives=np.add.reduceat(negatives, edges[:-1]).tolist(),
    )


def _edges_between(
    cells: NDArray[np.int64],
    patient_of: NDArray[np.int64],
    low: int,
    high: int,
    minimum_bin: int,
    allowed: Callable[[int], bool],
) -> list[int]:
    """Allowed edges strictly between `low` and `high`. Patients left over before `high` join the
    last bin."""
    edges: list[int] = []
    in_bin: set[int] = set()
    for cell in range(low, high):
        in_bin.update(patient_of[cells == cell].tolist())
        if len(in_bin) >= minimum_bin and (cell + 1 == high or allowed(cell + 1)):
            edges.append(cell + 1)
            in_bin = set()
    return edges[:-1]
