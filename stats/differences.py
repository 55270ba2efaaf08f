"""Two models on the same patients: differences over sites, and tests that know their number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from .intervals import Interval, z_of


@dataclass(frozen=True)
class Difference:
    """A difference of AUROCs with its interval and two-sided p; these None where the variance is 0
    (both models order all patients alike), so that chance cannot be judged."""

    value: float
    interval: Interval | None
    p: float | None


def difference(value: float, variance: float, confidence: float) -> Difference:
    """Wald's interval and test of a difference with known variance, cut off at ±1."""
    if variance <= 0:
        return Difference(value, None, None)
    error = float(np.sqrt(variance))
    half = z_of(confidence) * error
    interval = (max(-1.0, value - half), min(1.0, value + half))
    return Difference(value, interval, float(2 * norm.sf(abs(value) / error)))


def weighted_difference(
    values: Sequence[float], variances: Sequence[float], weights: Sequence[float], confidence: float
) -> Difference | None:
    """Weighted mean of sites' differences, weights taken as fixed. None without weight."""
    total = float(sum(weights))
    if not total:
        return None
    share = np.array(weights, float) / total
    return difference(
        float(share @ np.array(values)), float(share**2 @ np.array(variances)), confidence
    )


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p-values that hold for all of a family of tests together (Holm 1979); None stays out."""
    order = sorted((value, index) for index, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * value))
        adjusted[index] = largest
    return adjusted
