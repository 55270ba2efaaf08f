"""Confidence intervals of single figures."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

Interval = tuple[float, float]


@dataclass(frozen=True)
class IntervalEstimate:
    """A value with its confidence interval."""

    value: float
    interval: Interval


def z_of(confidence: float) -> float:
    """Standard normal quantile of a two-sided confidence level."""
    return float(norm.ppf(0.5 + confidence / 2))


def logit_interval(
    auroc: float, variance: float, positives: int, negatives: int, confidence: float
) -> Interval:
    """Confidence interval of an AUROC on the logit scale, logit(A) ± z·se/(A(1-A)).

    With one unit in a class, or with perfect separation (where DeLong's would be [1, 1]), the
    interval is Newcombe's (`newcombe_interval`).

    Parameters
    ----------
    auroc, variance
        The estimate, in [0, 1], and its variance.
    positives, negatives
        Numbers of units.
    confidence
        Confidence level, in (0.5, 1).
    """
    if variance <= 0.0 or auroc in (0.0, 1.0) or min(positives, negatives) < 2:
        return newcombe_interval(auroc, positives, negatives, confidence)
    return large_sample_interval(auroc, variance, confidence)


def large_sample_interval(auroc: float, variance: float, confidence: float) -> Interval:
    """As `logit_interval`, for an AUROC in (0, 1) and without the rule for small samples."""
    half = z_of(confidence) * np.sqrt(variance) / (auroc * (1 - auroc))
    centre = np.log(auroc / (1 - auroc))
    low, high = 1 / (1 + np.exp(-(centre + np.array([-half, half]))))
    return float(low), float(high)


def newcombe_interval(auroc: float, positives: int, negatives: int, confidence: float) -> Interval:
    """Score-like interval of an AUROC from its value and the counts.

    The limits are the values A with |auroc - A| = z·√V(A), where V is Hanley and McNeil's variance
    under exponential scores with both counts in its last terms replaced by their mean.

    Parameters
    ----------
    auroc
        The estimate, in [0, 1].
    positives, negatives
        Numbers of units, at least 1.
    confidence
        Confidence level, in (0.5, 1).

    References
    ----------
    Newcombe 2006, Statistics in Medicine 25:559, method 5.
    """
    z = z_of(confidence)
    mean = (positives + negatives) / 2 - 1

    def gap(a: float) -> float:
        spread = 1 + mean * (1 - a) / (2 - a) + mean * a / (1 + a)
        return float((auroc - a) ** 2 - z**2 * a * (1 - a) * spread / (positives * negatives))

    near = 1e-9  # the gap is also 0 at A = 0 and A = 1, which are not the limits
    low = brentq(gap, 0.0, auroc - near) if auroc > near else 0.0
    high = brentq(gap, auroc + near, 1.0) if auroc < 1 - near else 1.0
    return float(low), float(high)


def hanley_mcneil(auroc: float, positives: int, negatives: int) -> float:
    """Variance of an AUROC from its value and the counts (Hanley & McNeil 1982, eq. 1)."""
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    return float(
        (
            auroc * (1 - auroc)
            + (positives - 1) * (q1 - auroc**2)
            + (negatives - 1) * (q2 - auroc**2)
        )
        / (positives * negatives)
    )


def wilson(successes: int, trials: int, confidence: float) -> Interval | None:
    """Wilson's score interval of a proportion (1927); None without trials."""
    if not trials:
        return None
    z, share = z_of(confidence), successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
