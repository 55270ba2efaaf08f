"""AUROC from histograms that carry discrete Laplace noise."""

import numpy as np

from fedrad.exchange.figures import Scores
from fedrad.exchange.histogram import PATIENT_CELLS, Histogram, clip_negative_counts

from .auroc import histogram_variance, pair_auroc


def from_noisy(scores: Scores) -> Scores:
    """Add AUROC and variance to scores with a noisy histogram, and set its negative counts to 0.
    Scores without noise are returned unchanged.

    The AUROC is computed before negative counts are set to 0: that adds units to empty bins and
    would bias it towards 0.5. The variance is the sum of two: that of the sample of patients
    (DeLong), and that of the noise. The noise of each count has variance 2q/(1-q)², q = exp(-ε/2),
    and changes the AUROC by (placement - AUROC)/P or /N (delta method). There is no AUROC if the
    noisy number of a class is not positive.
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
    """AUROC of a noisy histogram `h`, and its variance; `plain`: `h` without negative counts."""
    P, N = h.total_positives, h.total_negatives
    if P <= 0 or N <= 0:
        return None
    value = float(np.clip(pair_auroc(h, h)[0], 0.0, 1.0))
    p, n = np.array(h.positives, float), np.array(h.negatives, float)
    below, above = (n.cumsum() - n / 2) / N, (P - p.cumsum() + p / 2) / P
    moves = np.concatenate([(below - value) / P, (above - value) / N])
    q = np.exp(-epsilon / PATIENT_CELLS)
    noise = float(2 * q / (1 - q) ** 2 * (moves @ moves))
    return value, histogram_variance(plain) + noise
