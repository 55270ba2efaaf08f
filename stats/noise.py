"""AUROC from histograms that carry Laplace noise."""

import numpy as np

from fedrad.exchange.figures import Scores
from fedrad.exchange.histogram import Histogram, clip_negative_counts

from .auroc import histogram_variance, pair_auroc


def from_noisy(scores: Scores) -> Scores:
    """The scores with AUROC and variance from their noisy histogram, which is then cut off at 0 for
    all else; without noise as they are.

    The AUROC is that of the counts as they came: cutting off first would add units to empty bins
    and draw it towards 0.5. The variance holds chance of patients (DeLong) and of the noise: each
    count varies by 2q/(1-q)², q = exp(-ε), and moves the AUROC by (placement - AUROC)/P or /N
    (delta method). Without a positive number of both classes there is no AUROC.
    """
    h, epsilon = scores.histogram, scores.epsilon
    if h is None or epsilon is None:
        return scores
    plain = clip_negative_counts(h)
    auroc = _auroc(h, plain, epsilon)
    return Scores(
        model=scores.model,
        outcome=scores.outcome,
        positives=plain.total_positives,
        negatives=plain.total_negatives,
        auroc=auroc[0] if auroc else None,
        variance=auroc[1] if auroc else None,
        histogram=plain,
        epsilon=epsilon,
        missing=None if auroc else "one class",
    )


def _auroc(h: Histogram, plain: Histogram, epsilon: float) -> tuple[float, float] | None:
    """AUROC and its variance; `plain`: the histogram cut off at 0."""
    P, N = h.total_positives, h.total_negatives
    if P <= 0 or N <= 0:
        return None
    value = float(np.clip(pair_auroc(h, h)[0], 0.0, 1.0))
    p, n = np.array(h.positives, float), np.array(h.negatives, float)
    below, above = (n.cumsum() - n / 2) / N, (P - p.cumsum() + p / 2) / P
    moves = np.concatenate([(below - value) / P, (above - value) / N])
    q = np.exp(-epsilon)
    noise = float(2 * q / (1 - q) ** 2 * (moves @ moves))
    return value, histogram_variance(plain) + noise
