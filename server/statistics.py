"""AUROC over sites that keep their scores.

Four figures, never under one name: per site, within-site, macro, pooled; and the site-only
partner of the pooled one. P and N are positives and negatives, with an index those of a site.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from fedrad.exchange.histogram import CELLS, GRID, Histogram
from fedrad.exchange.messages import Scores

Interval = tuple[float, float]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval, all in [0, 1]."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Pooled:
    """Pooled AUROC from histograms. The exact one lies within ± `bound` of `value`; the interval
    is widened by it."""

    value: float
    interval: Interval
    bound: float


def logit_interval(
    auroc: float, variance: float, positives: int, negatives: int, confidence: float
) -> Interval:
    """Confidence interval of an AUROC on the logit scale, logit(A) ± z·se/(A(1-A)).

    Small-sample rule: with one unit in a class, or perfect separation (for which DeLong would
    give [1, 1]), the interval is Newcombe's (`newcombe_interval`).
    """
    if variance <= 0.0 or auroc in (0.0, 1.0) or min(positives, negatives) < 2:
        return newcombe_interval(auroc, positives, negatives, confidence)
    half = norm.ppf(0.5 + confidence / 2) * np.sqrt(variance) / (auroc * (1 - auroc))
    centre = np.log(auroc / (1 - auroc))
    low, high = 1 / (1 + np.exp(-(centre + np.array([-half, half]))))
    return float(low), float(high)


def newcombe_interval(auroc: float, positives: int, negatives: int, confidence: float) -> Interval:
    """Score-like interval of an AUROC from its value and the counts (Newcombe 2006, Statistics in
    Medicine 25:559, method 5).

    The limits are the values A with |auroc - A| = z·√V(A), where V is Hanley and McNeil's variance
    under exponential scores with both counts in its last terms replaced by their mean.
    """
    z = norm.ppf(0.5 + confidence / 2)
    mean = (positives + negatives) / 2 - 1

    def gap(a: float) -> float:
        spread = 1 + mean * (1 - a) / (2 - a) + mean * a / (1 + a)
        return float((auroc - a) ** 2 - z**2 * a * (1 - a) * spread / (positives * negatives))

    near = 1e-9  # at 0 and 1 the gap is 0 as well, which is not the limit sought
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


def site_estimate(cell: Scores, confidence: float) -> Estimate | None:
    """A site's own AUROC; None where it has one class or released nothing."""
    if cell.auroc is None or cell.variance is None:
        return None
    interval = logit_interval(cell.auroc, cell.variance, cell.positives, cell.negatives, confidence)
    return Estimate(cell.auroc, interval)


def within_site(cells: Sequence[Scores], confidence: float) -> Estimate | None:
    """Pair-weighted mean of the sites' AUROCs, Σ P_k·N_k·A_k / Σ P_k·N_k: patients are compared
    inside their hospital. Variance Σ w_k²·Var_k, weights taken as fixed."""
    return _weighted(cells, [c.positives * c.negatives for c in cells], confidence)


def macro(cells: Sequence[Scores], confidence: float) -> Estimate | None:
    """Plain mean of the sites' AUROCs."""
    return _weighted(cells, [1] * len(cells), confidence)


def _weighted(
    cells: Sequence[Scores], weights: Sequence[int], confidence: float
) -> Estimate | None:
    own = [(c, w) for c, w in zip(cells, weights, strict=True) if c.auroc is not None]
    if not own:
        return None
    share = np.array([w for _, w in own], float) / sum(w for _, w in own)
    value = float(share @ np.array([c.auroc for c, _ in own]))
    variance = float(share**2 @ np.array([c.variance for c, _ in own]))
    positives, negatives = (sum(c.positives for c, _ in own), sum(c.negatives for c, _ in own))
    return Estimate(value, logit_interval(value, variance, positives, negatives, confidence))


def pair_placements(positives: Histogram, negatives: Histogram) -> tuple[Floats, Floats]:
    """For each bin of positives: negatives certainly below, and negatives in overlapping bins.

    The two histograms may have different bins of the same grid.
    """
    counts = np.array(negatives.negatives, float)
    starts, ends = np.array(negatives.edges[:-1]), np.array(negatives.edges[1:])
    below_upto = np.concatenate([[0.0], counts.cumsum()])
    low, high = np.array(positives.edges[:-1]), np.array(positives.edges[1:])
    below = below_upto[np.searchsorted(ends, low, side="right")]
    not_above = below_upto[np.searchsorted(starts, high, side="left")]
    return below, not_above - below


def pair_auroc(positives: Histogram, negatives: Histogram) -> tuple[float, float]:
    """AUC_ij of one site's positives against another's (or its own) negatives, and its bound.

    Pairs in overlapping bins count one half and are uncertain by one half each.
    """
    below, overlap = pair_placements(positives, negatives)
    p = np.array(positives.positives, float)
    pairs = positives.total_positives * negatives.total_negatives
    return float(p @ (below + overlap / 2) / pairs), float(p @ overlap / 2 / pairs)


def pooled(histograms: Sequence[Histogram], confidence: float) -> Pooled | None:
    """AUROC over all pairs of all sites, Σ_ij (P_i·N_j / P·N)·AUC_ij, with certified bound.

    Variance: DeLong's, from the placements of each unit among all units of the other class; a
    bin's units share a placement. None where a class is missing altogether.
    """
    P = sum(h.total_positives for h in histograms)
    N = sum(h.total_negatives for h in histograms)
    if P == 0 or N == 0:
        return None
    value = bound = 0.0
    of_positives: list[tuple[Floats, Floats]] = []
    of_negatives: list[tuple[Floats, Floats]] = []
    turned = [_turned(h) for h in histograms]
    for own, own_turned in zip(histograms, turned, strict=True):
        below, overlap = _placements_in_all(own, histograms)
        p = np.array(own.positives, float)
        value += float(p @ (below + overlap / 2)) / (P * N)
        bound += float(p @ overlap) / 2 / (P * N)
        of_positives.append((p, (below + overlap / 2) / N))
        # A negative's placement is the share of positives above it: the same with classes turned.
        below, overlap = _placements_in_all(own_turned, turned)
        of_negatives.append((np.array(own.negatives, float), 1 - (below + overlap / 2) / P))
    variance = _sample_variance(of_positives) / P + _sample_variance(of_negatives) / N
    low, high = logit_interval(value, variance, P, N, confidence)
    return Pooled(value, (max(0.0, low - bound), min(1.0, high + bound)), bound)


def _placements_in_all(own: Histogram, others: Sequence[Histogram]) -> tuple[Floats, Floats]:
    """`pair_placements` of a site's positives, summed over the negatives of some sites."""
    below = np.zeros(len(own.positives))
    overlap = np.zeros(len(own.positives))
    for other in others:
        below_there, overlap_there = pair_placements(own, other)
        below += below_there
        overlap += overlap_there
    return below, overlap


def _turned(histogram: Histogram) -> Histogram:
    """The histogram with its classes exchanged."""
    return Histogram(
        edges=histogram.edges, positives=histogram.negatives, negatives=histogram.positives
    )


def _sample_variance(groups: list[tuple[Floats, Floats]]) -> float:
    """Sample variance of values given with their counts."""
    counts = np.concatenate([c for c, _ in groups])
    values = np.concatenate([v for _, v in groups])
    total = counts.sum()
    if total < 2:
        return 0.0
    mean = counts @ values / total
    return float(counts @ (values - mean) ** 2 / (total - 1))


def site_only(cells: Sequence[Scores]) -> float | None:
    """Pooled AUROC of a "model" that knows only the hospital: every patient is scored by the
    prevalence of their site. What a pooled figure has to be seen against."""
    P, N = sum(c.positives for c in cells), sum(c.negatives for c in cells)
    if P == 0 or N == 0:
        return None
    present = [c for c in cells if c.positives + c.negatives]
    positives = np.array([c.positives for c in present], float)
    negatives = np.array([c.negatives for c in present], float)
    prevalence = positives / (positives + negatives)
    higher = prevalence[:, None] > prevalence[None, :]
    equal = prevalence[:, None] == prevalence[None, :]
    return float(positives @ (higher + 0.5 * equal) @ negatives / (P * N))


def within_share(cells: Sequence[Scores]) -> float | None:
    """Share of all positive-negative pairs that lie within a site."""
    P, N = sum(c.positives for c in cells), sum(c.negatives for c in cells)
    if P == 0 or N == 0:
        return None
    return sum(c.positives * c.negatives for c in cells) / (P * N)


def best_threshold(histograms: Sequence[Histogram]) -> float | None:
    """Logit that maximises sensitivity + specificity (Youden 1950) over summed histograms.

    Bins that a candidate cuts are divided evenly over their cells. None where a class is missing.
    """
    positives, negatives = np.zeros(CELLS), np.zeros(CELLS)
    for h in histograms:
        for low, high, p, n in zip(
            h.edges[:-1], h.edges[1:], h.positives, h.negatives, strict=True
        ):
            positives[low:high] += p / (high - low)
            negatives[low:high] += n / (high - low)
    if positives.sum() == 0 or negatives.sum() == 0:
        return None
    sensitivity = 1 - np.concatenate([[0.0], positives.cumsum()]) / positives.sum()
    specificity = np.concatenate([[0.0], negatives.cumsum()]) / negatives.sum()
    best = np.flatnonzero(np.isclose(sensitivity + specificity, (sensitivity + specificity).max()))
    return float(GRID[best[len(best) // 2]])
