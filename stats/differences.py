"""Two models on the same patients: differences of AUROCs, and correction for several tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from .intervals import Interval, z_of
from .weighted import mean_with_variance


@dataclass(frozen=True)
class Difference:
    """A difference of AUROCs with its confidence interval and two-sided p. Both are None if the
    variance is 0, as when both models rank all patients in the same order."""

    value: float
    interval: Interval | None
    p: float | None


def difference(value: float, variance: float, confidence: float) -> Difference:
    """Wald's interval, limited to ±1, and test of a difference with known variance."""
    if variance <= 0:
        return Difference(value, None, None)
    error = float(np.sqrt(variance))
    half = z_of(confidence) * error
    interval = (max(-1.0, value - half), min(1.0, value + half))
    return Difference(value, interval, float(2 * norm.sf(abs(value) / error)))


def weighted_difference(
    values: Sequence[float], variances: Sequence[float], weights: Sequence[float], confidence: float
) -> Difference | None:
    """Weighted mean of the sites' differences.

    Parameters
    ----------
    values, variances
        Difference of each site, and its variance.
    weights
        Weight of each site, taken as fixed.
    confidence
        Confidence level, in (0.5, 1).

    Returns
    -------
    Difference or None
        None where all weights are 0.
    """
    if not sum(weights):
        return None
    return difference(*mean_with_variance(values, variances, weights), confidence)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for several tests (Holm 1979); entries that are None are no tests."""
    order = sorted((value, index) for index, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * value))
        adjusted[index] = largest
    return adjusted
