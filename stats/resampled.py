"""Comparison of two recipes over resamples of the same patients, which are not independent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student
from scipy.stats import wilcoxon

from .differences import Difference
from .intervals import Interval

ROUNDING = 1e-12
"""Differences of AUROCs below this are taken as 0."""


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test. `least`: the smallest p that is possible with so many pairs."""

    p: float
    pairs: int
    least: float


def corrected_resampled(
    differences: Sequence[float], test_to_train: float, confidence: float
) -> Difference | None:
    """Mean difference over J resamples with the corrected resampled t-test.

    As the resamples share training patients, the variance of the mean is (1/J + n₂/n₁)·S² instead
    of S²/J; there are J - 1 degrees of freedom.

    Parameters
    ----------
    differences
        Difference of AUROCs in each resample.
    test_to_train
        n₂/n₁, number of test patients divided by number of training patients.
    confidence
        Confidence level, in (0.5, 1).

    Returns
    -------
    Difference or None
        None with fewer than two resamples. Interval and p are None if all differences are equal.

    References
    ----------
    Nadeau & Bengio 2003, Machine Learning 52:239, section 3; for repeated folds Bouckaert & Frank
    2004.
    """
    d = np.array(differences, float)
    if len(d) < 2:
        return None
    value, spread = float(d.mean()), float(d.var(ddof=1))
    if np.ptp(d) < ROUNDING:
        return Difference(value, None, None)
    error = float(np.sqrt((1 / len(d) + test_to_train) * spread))
    half = float(student.ppf(0.5 + confidence / 2, len(d) - 1)) * error
    p = float(2 * student.sf(abs(value) / error, len(d) - 1))
    return Difference(value, (max(-1.0, value - half), min(1.0, value + half)), p)


def signed_rank(differences: Sequence[float]) -> SignedRank | None:
    """Wilcoxon's signed-rank test (1945), two-sided, as papers of the field report it. It assumes
    independent pairs, which resamples of the same patients are not. None with fewer than two pairs
    that differ."""
    apart = [d for d in differences if abs(d) >= ROUNDING]
    if len(apart) < 2:
        return None
    return SignedRank(float(wilcoxon(apart).pvalue), len(apart), min(1.0, 2.0 ** (1 - len(apart))))


def unpaired_interval(one: float, of_one: Interval, other: float, of_other: Interval) -> Interval:
    """Confidence interval of the difference of two figures from their intervals, without
    correlation between them. For figures on the same patients, which are correlated, it is wider
    than a paired interval.

    Parameters
    ----------
    one, of_one
        The first figure, and its confidence interval.
    other, of_other
        The second figure, and its confidence interval.

    References
    ----------
    Zou & Donner 2008, Statistics in Medicine 27:1693.
    """
    low = one - other - np.hypot(one - of_one[0], of_other[1] - other)
    high = one - other + np.hypot(of_one[1] - one, other - of_other[0])
    return max(-1.0, float(low)), min(1.0, float(high))
