"""What validation units choose: a threshold, and beside it a calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedrad.exchange.histogram import CELLS, Histogram, grid_cells
from fedrad.models.calibration import Calibration, Floats, fit

from .exact import Logits, Units


@dataclass(frozen=True)
class SiteChoices:
    """A threshold, an edge of the grid of raw logits, and a calibration."""

    threshold: int
    calibration: Calibration


def youden_edge(positives: Floats, negatives: Floats) -> int:
    """Edge of the grid that maximises sensitivity + specificity (Youden 1950, Cancer 3:32); of
    several equally good ones the middle one.

    Parameters
    ----------
    positives, negatives
        (CELLS,) units of each class in the cells of the grid, or parts of units; neither all 0.
    """
    sensitivity = 1 - np.concatenate([[0.0], positives.cumsum()]) / positives.sum()
    specificity = np.concatenate([[0.0], negatives.cumsum()]) / negatives.sum()
    both = sensitivity + specificity
    best = np.flatnonzero(np.isclose(both, both.max()))
    return int(best[len(best) // 2])


def choose_at_site(raw: Logits, units: Units) -> SiteChoices:
    """What a site's own validation units choose for one model and outcome.

    Parameters
    ----------
    raw
        (n,) raw logits.
    units
        The n units; both classes must be there.
    """
    positive, cells = units.positive, grid_cells(raw)
    return SiteChoices(
        threshold=youden_edge(
            np.bincount(cells[positive], minlength=CELLS).astype(float),
            np.bincount(cells[~positive], minlength=CELLS).astype(float),
        ),
        calibration=fit(raw, positive.astype(float), (~positive).astype(float)),
    )


def common_threshold(histograms: Sequence[Histogram]) -> int | None:
    """The common threshold, an edge of the grid, from the histograms of all sites.

    Bins that a candidate cuts are divided evenly over their cells. None where a class is missing.
    """
    positives, negatives = np.zeros(CELLS), np.zeros(CELLS)
    for h in histograms:
        for low, high, p, n in zip(
            h.edges[:-1], h.edges[1:], h.positives, h.negatives, strict=True
        ):
            positives[low:high] += p / (high - low)
            negatives[low:high] += n / (high - low)
    if positives.sum() == 0 or negatives.sum() == 0:
        return None
    return youden_edge(positives, negatives)
