"""Two recipes over the same resamples of the same patients, which are not independent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student
from scipy.stats import wilcoxon

from .differences import Difference
from .intervals import Interval

ROUNDING = 1e-12
"""Differences of AUROCs below this are none."""


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test. `least`: the smallest p that so many pairs can give."""

    p: float
    pairs: int
    least: float


def corrected_resampled(
    differences: Sequence[float], test_to_train: float, confidence: float
) -> Difference | None:
    """Mean of the differences over J resamples with the corrected resampled t-test (Nadeau & Bengio
    2003, Machine Learning 52:239, section 3; for repeated folds Bouckaert & Frank 2004).

    The resamples share training patients, so the variance of the mean is (1/J + n₂/n₁)·S² and not
    S²/J, `test_to_train` being n₂/n₁; J - 1 degrees of freedom. None with fewer than two. Interval
    and p are None where all differences are equal.
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
    """Wilcoxon's signed-rank test (1945), two-sided, as papers of the field report it. It takes the
    pairs for independent, which reruns on the same patients are not. None with fewer than two pairs
    that differ."""
    apart = [d for d in differences if abs(d) >= ROUNDING]
    if len(apart) < 2:
        return None
    return SignedRank(float(wilcoxon(apart).pvalue), len(apart), min(1.0, 2.0 ** (1 - len(apart))))


def unpaired_interval(one: float, of_one: Interval, other: float, of_other: Interval) -> Interval:
    """Interval of a difference from the two figures' own (Zou & Donner 2008, Statistics in Medicine
    27:1693, with correlation 0). On the same patients figures vary together, so it is wider than a
    paired one."""
    low = one - other - np.hypot(one - of_one[0], of_other[1] - other)
    high = one - other + np.hypot(of_one[1] - one, other - of_other[0])
    return max(-1.0, float(low)), min(1.0, float(high))
