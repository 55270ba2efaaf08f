"""Calibration: of logits of single units, and over all sites from their histograms."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from fedrad.exchange.figures import CalibrationLine
from fedrad.exchange.histogram import GRID, Histogram
from fedrad.models.calibration import Calibration, Floats, fit, maximum_likelihood, undo_prior

FEWEST_BINS = 3
"""Smallest number of bins with which a histogram enters a calibration."""


def shift(logits: Floats, positives: Floats, negatives: Floats) -> float | None:
    """Calibration in the large: the shift of calibrated logits that makes their mean probability
    equal to the prevalence. 0 is perfect.

    Parameters
    ----------
    logits
        (B,) calibrated logits, of units or of bins.
    positives, negatives
        (B,) numbers of units of each class with each logit.

    Returns
    -------
    float or None
        None where a class is missing.

    References
    ----------
    Van Calster et al. 2019, BMC Medicine 17:230: the intercept of a logistic regression with a
    slope of 1.
    """
    if not positives.sum() or not negatives.sum():
        return None
    units = positives + negatives
    reach = float(np.abs(logits).max()) + 40.0

    def excess(moved: float) -> float:
        return float(np.sum(units * expit(logits + moved) - positives))

    return float(brentq(excess, -reach, reach, xtol=1e-10))


def slope(logits: Floats, positives: Floats, negatives: Floats) -> float | None:
    """Calibration slope: the slope of a logistic regression on calibrated logits (Cox 1958). 1 is
    perfect; below 1 the probabilities are too extreme.

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
    """Logit that represents each bin (B,): its middle.

    The outermost bins reach to the limits of the grid only because they are the last. Like an open
    class of grouped data, each gets the width of its neighbour. None with fewer than three bins,
    as then an outermost bin has no neighbour of known width.
    """
    edges = GRID[histogram.edges].copy()
    if len(edges) - 1 < FEWEST_BINS:
        return None
    edges[0] = max(edges[0], edges[1] - (edges[2] - edges[1]))
    edges[-1] = min(edges[-1], edges[-2] + (edges[-2] - edges[-3]))
    return (edges[:-1] + edges[1:]) / 2


def calibrate(histograms: Sequence[Histogram]) -> Calibration | None:
    """Fit intercept and slope to the validation units of all sites, for their prevalence.

    Histograms with fewer than three bins do not enter the fit. None where no site has units of a
    class.
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
    """`shift` and `slope` of calibrated logits over all sites.

    Parameters
    ----------
    histograms
        Of each site, of raw logits. Each unit gets the logit of the middle of its bin.
    calibration
        Maps raw to calibrated logits.

    Returns
    -------
    shift, slope
        None where they do not exist, or no histogram has three bins.
    """
    placed = [(z, h) for h in histograms if (z := bin_logits(h)) is not None]
    if not placed:
        return None, None
    z = calibration.intercept + calibration.slope * np.concatenate([z for z, _ in placed])
    p = np.concatenate([np.array(h.positives, float) for _, h in placed])
    n = np.concatenate([np.array(h.negatives, float) for _, h in placed])
    return shift(z, p, n), slope(z, p, n)
