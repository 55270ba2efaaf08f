"""Site-only AUROC, and the share of pairs within a site: figures from the counts of the sites."""

from collections.abc import Sequence

import numpy as np

from fedrad.exchange.figures import Scores
from fedrad.models.calibration import Floats

from .intervals import IntervalEstimate, logit_interval


def site_only(cells: Sequence[Scores], confidence: float) -> IntervalEstimate | None:
    """Site-only AUROC: the pooled AUROC of a model that knows only the hospital, as it scores each
    patient with the prevalence of the site. A pooled AUROC must be compared with it.

    The interval is DeLong's for these scores; it takes the prevalences as known.
    """
    if (counts := _counts(cells)) is None:
        return None
    positives, negatives = counts
    prevalence = positives / (positives + negatives)
    kernel = (prevalence[:, None] > prevalence[None, :]) + 0.5 * (
        prevalence[:, None] == prevalence[None, :]
    )
    return _two_sample(positives, negatives, kernel, confidence)


def within_share(cells: Sequence[Scores], confidence: float) -> IntervalEstimate | None:
    """Share of all positive-negative pairs whose two units are of the same site, with its
    confidence interval."""
    if (counts := _counts(cells)) is None:
        return None
    return _two_sample(*counts, np.eye(len(counts[0])), confidence)


def _counts(cells: Sequence[Scores]) -> tuple[Floats, Floats] | None:
    present = [c for c in cells if c.positives + c.negatives]
    positives = np.array([c.positives for c in present], float)
    negatives = np.array([c.negatives for c in present], float)
    return (positives, negatives) if positives.sum() and negatives.sum() else None


def _two_sample(
    positives: Floats, negatives: Floats, kernel: Floats, confidence: float
) -> IntervalEstimate:
    """Mean of a kernel over all pairs (a two-sample U-statistic). The kernel has the same value for
    all units of a site. The variance is DeLong's: from the sample variances of each unit's mean
    over the other class.

    Parameters
    ----------
    positives, negatives
        (K,) numbers of units at K sites.
    kernel
        (K, K) in [0, 1]: row of the positive's site, column of the negative's.
    confidence
        Confidence level, in (0.5, 1).
    """
    P, N = positives.sum(), negatives.sum()
    of_positives, of_negatives = kernel @ negatives / N, positives @ kernel / P
    value = float(positives @ of_positives / P)

    def spread(counts: Floats, means: Floats) -> float:
        total = counts.sum()
        return float(counts @ (means - value) ** 2 / (total - 1)) if total > 1 else 0.0

    variance = spread(positives, of_positives) / P + spread(negatives, of_negatives) / N
    if value in (0.0, 1.0) or variance == 0.0:
        return IntervalEstimate(
            value, (value, value)
        )  # one site, or the same prevalence everywhere
    return IntervalEstimate(value, logit_interval(value, variance, int(P), int(N), confidence))
