"""Calibration: of single units' logits, and over sites that keep their scores, from histograms."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from fedrad.exchange.figures import CalibrationLine
from fedrad.exchange.histogram import GRID, Histogram
from fedrad.models.calibration import Calibration, fit, maximum_likelihood, undo_prior

Floats = NDArray[np.float64]
FEWEST_BINS = 3


def shift(logits: Floats, positives: Floats, negatives: Floats) -> float | None:
    """Calibration in the large: what must be added to calibrated logits to make their mean
    probability the prevalence (Van Calster et al. 2019, BMC Medicine 17:230: the intercept of a
    logistic regression with a slope of 1). 0 is perfect.

    Parameters
    ----------
    logits
        (B,) calibrated logits, of units or of bins.
    positives, negatives
        (B,) numbers of units of each class that have them.

    Returns
    -------
    float or None
        None where a class is missing.
    """
    if not positives.sum() or not negatives.sum():
        return None
    units = positives + negatives
    reach = float(np.abs(logits).max()) + 40.0

    def excess(moved: float) -> float:
        return float(np.sum(units * expit(logits + moved) - positives))

    return float(brentq(excess, -reach, reach, xtol=1e-10))


def slope(logits: Floats, positives: Floats, negatives: Floats) -> float | None:
    """Calibration slope: that of a logistic regression on calibrated logits (Cox 1958). 1 is
    perfect; below 1 probabilities are too extreme.

    Parameters
    ----------
    logits, positives, negatives
        As of `shift`.

    Returns
    -------
    float or None
        None where a class is missing or the classes are separated.
    """
    fitted = maximum_likelihood(logits, positives, negatives)
    return None if fitted is None else fitted[1]


def bin_logits(histogram: Histogram) -> Floats | None:
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


def shift_and_slope(
    histograms: Sequence[Histogram], calibration: CalibrationLine
) -> tuple[float | None, float | None]:
    """`shift` and `slope` over all sites of logits that a calibration maps, units placed in the
    middle of their bins; None where they do not exist, or no histogram is fine enough."""
    placed = [(z, h) for h in histograms if (z := bin_logits(h)) is not None]
    if not placed:
        return None, None
    z = calibration.intercept + calibration.slope * np.concatenate([z for z, _ in placed])
    p = np.concatenate([np.array(h.positives, float) for _, h in placed])
    n = np.concatenate([np.array(h.negatives, float) for _, h in placed])
    return shift(z, p, n), slope(z, p, n)
