"""Calibration over sites that keep their scores: from released validation histograms."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from fedrad.exchange.figures import Line
from fedrad.exchange.histogram import GRID, Histogram
from fedrad.models.calibration import Calibration, fit, maximum_likelihood, undo_prior

FEWEST_BINS = 3


def bin_logits(histogram: Histogram) -> NDArray[np.float64] | None:
    """The logit that stands for each bin (B,): its middle.

    The outermost bins reach to the limit of the grid only because they are the last: like an open
    class of grouped data each is given the width of its neighbour. None with fewer than three
    bins, where an outermost one has no neighbour of known width.
    """
    edges = GRID[histogram.edges].copy()
    if len(edges) - 1 < FEWEST_BINS:
        return None
    edges[0] = max(edges[0], edges[1] - (edges[2] - edges[1]))
    edges[-1] = min(edges[-1], edges[-2] + (edges[-2] - edges[-3]))
    return (edges[:-1] + edges[1:]) / 2


def calibrate(histograms: Sequence[Histogram]) -> Calibration | None:
    """Intercept and slope over the validation units of all sites, for their own prevalence.

    Units of a histogram too coarse to place stay out of the fit. None where a class has no unit at
    any site.
    """
    placed = [(z, h) for h in histograms if (z := bin_logits(h)) is not None]
    if sum(h.total_positives for _, h in placed) and sum(h.total_negatives for _, h in placed):
        return fit(
            np.concatenate([z for z, _ in placed]),
            np.concatenate([h.positives for _, h in placed]),
            np.concatenate([h.negatives for _, h in placed]),
        )
    positives = sum(h.total_positives for h in histograms)
    negatives = sum(h.total_negatives for h in histograms)
    if not positives or not negatives:
        return None
    return undo_prior(positives, negatives, "no site's histogram is fine enough")


def intercept_and_slope(
    histograms: Sequence[Histogram], calibration: Line
) -> tuple[float | None, float | None]:
    """Calibration in the large and slope of calibrated logits over all sites, units placed in the
    middle of their bins; None where they do not exist, or no histogram is fine enough."""
    placed = [(z, h) for h in histograms if (z := bin_logits(h)) is not None]
    if not placed:
        return None, None
    z = calibration.intercept + calibration.slope * np.concatenate([z for z, _ in placed])
    p = np.concatenate([np.array(h.positives, float) for _, h in placed])
    n = np.concatenate([np.array(h.negatives, float) for _, h in placed])
    if not p.sum() or not n.sum():
        return None, None
    reach = float(np.abs(z).max()) + 40.0
    shift = brentq(lambda a: float((p + n) @ expit(z + a) - p.sum()), -reach, reach, xtol=1e-10)
    fitted = maximum_likelihood(z, p, n)
    return float(shift), None if fitted is None else fitted[1]
