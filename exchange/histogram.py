"""Score histograms: what the coordinator learns of a site's scores.

Scores are logits. All sites count into the same fixed grid, then each merges neighbouring cells
until no bin holds fewer than a minimum of units. So no score is located more finely than a grid
cell, and none stands alone; sites of different size release different bins of one grid, and two
such histograms still compare with a certain bound (`fedrad.stats`).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from .wire import Wire

LIMIT = 30.0
"""Logits are clipped to ±30; a probability would saturate long before."""
CELLS = 128

GRID: NDArray[np.float64] = np.sinh(np.linspace(-np.arcsinh(LIMIT), np.arcsinh(LIMIT), CELLS + 1))
GRID[0], GRID[-1] = -LIMIT, LIMIT  # sinh(arcsinh(30)) is a hair less
"""Cell edges, finest around a logit of 0 (0.064 wide) and coarser outwards (1.9 wide)."""


class Histogram(Wire):
    """Counts of positives and negatives in bins of the grid.

    Bin b covers cells `edges[b]` up to but not including `edges[b + 1]`; together the bins cover
    the whole grid. Values: counts of units. Only counts that carry noise (`noisy`) may be negative.
    """

    edges: list[int] = Field(min_length=2, max_length=CELLS + 1)
    positives: list[int]
    negatives: list[int]
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
    """A histogram with noise as one without: counts below 0 become 0."""
    return Histogram(
        edges=histogram.edges,
        positives=[max(0, n) for n in histogram.positives],
        negatives=[max(0, n) for n in histogram.negatives],
    )


def grid_cells(logits: ArrayLike) -> NDArray[np.int64]:
    """Cell of the grid for each logit, 0 … CELLS - 1; beyond the limit the outermost."""
    cells = np.searchsorted(GRID, np.asarray(logits, float), side="right") - 1
    return np.asarray(np.clip(cells, 0, CELLS - 1), dtype=np.int64)


def count_in_bins(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    minimum_bin: int,
    patients: NDArray[np.int64] | None = None,
    at: Sequence[int] = (),
) -> Histogram:
    """Histogram of a site's scores; every bin holds at least `minimum_bin` patients.

    `logits` (n,), `labels` (n,) in {0, 1}; `patients` (n,) says whose each unit is, None where
    each is a patient of its own. With fewer than `minimum_bin` patients in all there is one bin.
    `at`: edges wished for, in order of preference. A wish is met where each side, up to the next
    edge that was wished for and met, has `minimum_bin` patients or nobody.
    """
    labels, cells = np.asarray(labels, float), grid_cells(logits)
    owners = np.arange(len(cells)) if patients is None else patients

    def enough(low: int, high: int) -> bool:
        held = len(np.unique(owners[(cells >= low) & (cells < high)]))
        return held == 0 or held >= minimum_bin

    walls = [0, CELLS]
    for wish in at:
        tried = sorted({*walls, wish})
        if all(enough(low, high) for low, high in pairwise(tried)):
            walls = tried
    edges = [0]
    for low, high in pairwise(walls):
        inside = _edges_between(cells, owners, low, high, minimum_bin)
        edges += [*inside, high]
    positives = np.bincount(cells[labels == 1], minlength=CELLS)
    negatives = np.bincount(cells[labels == 0], minlength=CELLS)
    return Histogram(
        edges=edges,
        positives=np.add.reduceat(positives, edges[:-1]).tolist(),
        negatives=np.add.reduceat(negatives, edges[:-1]).tolist(),
    )


def _edges_between(
    cells: NDArray[np.int64], owners: NDArray[np.int64], low: int, high: int, minimum_bin: int
) -> list[int]:
    """Edges strictly between two walls; what is left over before the second joins the last bin."""
    edges: list[int] = []
    held: set[int] = set()
    for cell in range(low, high):
        held.update(owners[cells == cell].tolist())
        if len(held) >= minimum_bin:
            edges.append(cell + 1)
            held = set()
    return edges[:-1]
