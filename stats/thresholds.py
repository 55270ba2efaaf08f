"""Choice of a threshold and of a calibration on validation units."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedrad.exchange.histogram import CELLS, Histogram, grid_cells
from fedrad.models.calibration import Calibration, Floats, fit

from .exact import Logits, Units


@dataclass(frozen=True)
class SiteChoices:
    """The threshold, an edge of the grid of raw logits, and the calibration chosen at a site."""

    threshold: int
    calibration: Calibration


def youden_edge(positives: Floats, negatives: Floats) -> int:
    """Youden's threshold: the edge of the grid that maximises sensitivity + specificity (Youden
    1950, Cancer 3:32). If several edges do, it is the middle one.

    Parameters
    ----------
    positives, negatives
        (CELLS,) number of units of each class in each cell of the grid; it may be a fraction. Both
        classes must be present.
    """
    sensitivity = 1 - np.concatenate([[0.0], positives.cumsum()]) / positives.sum()
    specificity = np.concatenate([[0.0], negatives.cumsum()]) / negatives.sum()
    both = sensitivity + specificity
    best = np.flatnonzero(np.isclose(both, both.max()))
    return int(best[len(best) // 2])


def choose_at_site(raw: Logits, units: Units) -> SiteChoices:
    """Choose threshold and calibration of one model for one outcome on a site's validation units.

    Parameters
    ----------
    raw
        (n,) raw logits.
    units
        The n units; both classes must be present.
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
    """Choose the common threshold, an edge of the grid, from the histograms of all sites.

    The units of each bin are divided evenly over its cells. None where a class is missing.
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
