"""AUROC over sites that keep their scores.

Four figures, never under one name: per site, within-site, macro, pooled; and the site-only partner
of the pooled one. P and N are positives and negatives, with an index those of a site.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.figures import Scores, Subgroup
from fedrad.exchange.histogram import Histogram

from .intervals import Interval, IntervalEstimate, logit_interval, z_of

Floats = NDArray[np.float64]
AurocFigures = Scores | Subgroup
"""What has an AUROC with its variance, and counts."""


@dataclass(frozen=True)
class PooledAuroc:
    """Pooled AUROC from histograms. The exact one lies within ± `bound` of `value`; the interval
    is widened by it."""

    value: float
    interval: Interval
    bound: float


@dataclass(frozen=True)
class LowestSite:
    """The lowest AUROC of the sites, whose it is, and an interval for the lowest true one."""

    site: str
    value: float
    interval: Interval


def site_estimate(cell: AurocFigures, confidence: float) -> IntervalEstimate | None:
    """A site's own AUROC; None where it has one class or released nothing.

    With noise in the histogram the interval is plain, A ± z·se, and widened by the bound of its
    bins: on the logit scale it would shrink near 1, which the noise does not.
    """
    if cell.auroc is None or cell.variance is None:
        return None
    if isinstance(cell, Scores) and cell.epsilon and cell.histogram:
        bound = pair_auroc(cell.histogram, cell.histogram)[1]
        half = z_of(confidence) * float(np.sqrt(cell.variance)) + bound
        return IntervalEstimate(
            cell.auroc, (max(0.0, cell.auroc - half), min(1.0, cell.auroc + half))
        )
    interval = logit_interval(cell.auroc, cell.variance, cell.positives, cell.negatives, confidence)
    return IntervalEstimate(cell.auroc, interval)


def within_site_auroc(cells: Sequence[AurocFigures], confidence: float) -> IntervalEstimate | None:
    """Pair-weighted mean of the sites' AUROCs, Σ P_k·N_k·A_k / Σ P_k·N_k: patients are compared
    inside their hospital. Variance Σ w_k²·Var_k, weights taken as fixed."""
    return _weighted(cells, [c.positives * c.negatives for c in cells], confidence)


def macro_auroc(cells: Sequence[AurocFigures], confidence: float) -> IntervalEstimate | None:
    """Plain mean of the sites' AUROCs."""
    return _weighted(cells, [1] * len(cells), confidence)


def _weighted(
    cells: Sequence[AurocFigures], weights: Sequence[int], confidence: float
) -> IntervalEstimate | None:
    own = [(c, w) for c, w in zip(cells, weights, strict=True) if c.auroc is not None and w]
    if not own:
        return None
    share = np.array([w for _, w in own], float) / sum(w for _, w in own)
    value = float(share @ np.array([c.auroc for c, _ in own]))
    variance = float(share**2 @ np.array([c.variance for c, _ in own]))
    positives, negatives = (sum(c.positives for c, _ in own), sum(c.negatives for c, _ in own))
    return IntervalEstimate(
        value, logit_interval(value, variance, positives, negatives, confidence)
    )


def folds_sd(cells: Sequence[Scores]) -> float | None:
    """Standard deviation over folds of the within-site AUROC, at sites that gave every fold's; it
    is shown as papers show it, and no interval follows from it (folds share training patients)."""
    complete = [c for c in cells if c.folds and None not in c.folds]
    number = max((len(c.folds) for c in complete), default=0)
    same = [c for c in complete if len(c.folds) == number]
    if number < 2:
        return None
    weights = np.array([c.positives * c.negatives for c in same], float)
    means = weights @ np.array([c.folds for c in same], float) / weights.sum()
    return float(means.std(ddof=1))


def lowest_site(cells: Mapping[str, AurocFigures], confidence: float) -> LowestSite | None:
    """The lowest of the sites' AUROCs. `cells`: site -> figures.

    The lowest of several estimates is lower than the lowest truth, by chance, so its own interval
    would not do. The lowest truth is not below the lowest lower limit, for which the lowest site's
    interval alone must hold, nor above any upper limit, for which all K must: upper limits are
    those of a confidence of 1 - α/K (Bonferroni).
    """
    own = {site: c for site, c in cells.items() if c.auroc is not None and c.variance is not None}
    if not own:
        return None
    strict = 1 - (1 - confidence) / len(own)
    plain = [e.interval[0] for c in own.values() if (e := site_estimate(c, confidence))]
    wide = [e.interval[1] for c in own.values() if (e := site_estimate(c, strict))]
    site = min(own, key=lambda name: (own[name].auroc, name))
    value = own[site].auroc
    assert value is not None
    return LowestSite(site, value, (min(plain), min(wide)))


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


def auroc_table(histograms: Sequence[Histogram]) -> list[list[tuple[float, float] | None]]:
    """AUC_ij with its bound: row i has site i's positives, column j site j's negatives; None where
    there are none of them."""
    return [
        [pair_auroc(i, j) if i.total_positives and j.total_negatives else None for j in histograms]
        for i in histograms
    ]


def pooled_auroc(
    histograms: Sequence[Histogram], confidence: float, design_effect: float = 1.0
) -> PooledAuroc | None:
    """AUROC over all pairs of all sites, Σ_ij (P_i·N_j / P·N)·AUC_ij, with certified bound.

    Variance: DeLong's, from the placements of each unit among all units of the other class; a
    bin's units share a placement. It is multiplied by `design_effect`. None where a class is
    missing altogether.
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
    low, high = logit_interval(value, design_effect * variance, P, N, confidence)
    return PooledAuroc(value, (max(0.0, low - bound), min(1.0, high + bound)), bound)


def histogram_variance(histogram: Histogram) -> float:
    """DeLong's variance of a site's own AUROC from its histogram, every unit alone; both classes
    must be there."""
    below, overlap = pair_placements(histogram, histogram)
    turned = _turned(histogram)
    under, beside = pair_placements(turned, turned)
    P, N = histogram.total_positives, histogram.total_negatives
    of_positives = (np.array(histogram.positives, float), (below + overlap / 2) / N)
    of_negatives = (np.array(histogram.negatives, float), 1 - (under + beside / 2) / P)
    return _sample_variance([of_positives]) / P + _sample_variance([of_negatives]) / N


def design_effect(cells: Sequence[Scores]) -> float:
    """How much larger clustering makes the variance of the within-site AUROC: its variance from
    the sites' clustered ones over that from their histograms, in which every unit counts as a
    patient. At least 1. Histograms do not show which units are of one patient, so the pooled
    figure borrows this."""
    clustered = alone = 0.0
    for c in cells:
        if c.histogram is not None and c.variance is not None:
            weight = float(c.positives * c.negatives) ** 2
            clustered += weight * c.variance
            alone += weight * histogram_variance(c.histogram)
    return max(1.0, clustered / alone) if alone else 1.0


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
