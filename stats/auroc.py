"""AUROC over several sites, from the figures that they release; the scores stay at the sites.

There are four figures with different names: per site, within-site, macro and pooled; `prevalence`
adds the site-only AUROC, with which the pooled one is compared. P and N are the numbers of
positives and negatives; with an index they are those of a site.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedrad.exchange.figures import Scores, Subgroup
from fedrad.exchange.histogram import Histogram
from fedrad.models.calibration import Floats

from .intervals import Interval, IntervalEstimate, logit_interval, z_of
from .weighted import mean_with_variance, pair_weighted_mean

AurocFigures = Scores | Subgroup
"""Figures that include an AUROC, its variance and counts."""


@dataclass(frozen=True)
class PooledAuroc:
    """Pooled AUROC from histograms. The exact AUROC lies within `value` ± `bound`; `interval` is
    widened by `bound`."""

    value: float
    interval: Interval
    bound: float


@dataclass(frozen=True)
class LowestSite:
    """The lowest AUROC of all sites, its site, and a confidence interval of the lowest true one."""

    site: str
    value: float
    interval: Interval


def site_estimate(cell: AurocFigures, confidence: float) -> IntervalEstimate | None:
    """AUROC of one site with its confidence interval.

    If the histogram carries noise, the interval is A ± z·se, widened by the bound of its bins. On
    the logit scale it would be narrower near 1, where the noise is not smaller.

    Returns
    -------
    IntervalEstimate or None
        None where the site has one class or released no figure.
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
    """Within-site AUROC: mean of the sites' AUROCs weighted by their positive-negative pairs,
    Σ P_k·N_k·A_k / Σ P_k·N_k. So patients are compared with patients of their hospital only. The
    variance is Σ w_k²·Var_k; the weights w_k are taken as fixed."""
    return _weighted(cells, [c.positives * c.negatives for c in cells], confidence)


def macro_auroc(cells: Sequence[AurocFigures], confidence: float) -> IntervalEstimate | None:
    """Macro AUROC: unweighted mean of the sites' AUROCs."""
    return _weighted(cells, [1] * len(cells), confidence)


def _weighted(
    cells: Sequence[AurocFigures], weights: Sequence[int], confidence: float
) -> IntervalEstimate | None:
    used = [(c, w) for c, w in zip(cells, weights, strict=True) if c.auroc is not None and w]
    if not used:
        return None
    value, variance = mean_with_variance(
        np.array([c.auroc for c, _ in used]),
        np.array([c.variance for c, _ in used]),
        [w for _, w in used],
    )
    positives, negatives = (sum(c.positives for c, _ in used), sum(c.negatives for c, _ in used))
    return IntervalEstimate(
        value, logit_interval(value, variance, positives, negatives, confidence)
    )


def folds_sd(cells: Sequence[Scores]) -> float | None:
    """Standard deviation over folds of the within-site AUROC, from the sites that released the
    AUROC of every fold. Papers report it; no interval can be derived from it, because folds share
    training patients."""
    complete = [c for c in cells if c.folds and None not in c.folds]
    number = max((len(c.folds) for c in complete), default=0)
    same = [c for c in complete if len(c.folds) == number]
    if number < 2:
        return None
    means = pair_weighted_mean(
        np.array([c.folds for c in same], float),
        [c.positives for c in same],
        [c.negatives for c in same],
    )
    return float(means.std(ddof=1))


def lowest_site(cells: Mapping[str, AurocFigures], confidence: float) -> LowestSite | None:
    """The lowest of the sites' AUROCs. `cells`: site -> figures.

    By chance, the lowest of several estimates is below the lowest true AUROC, so the interval of
    its site cannot be used. The lower limit is the lowest of the sites' lower limits: it holds if
    the interval of the site with the lowest true AUROC holds. The upper limit is the lowest of the
    sites' upper limits: it holds if those of all K sites hold, so each is computed with a
    confidence of 1 - α/K (Bonferroni).
    """
    with_auroc = {
        site: c for site, c in cells.items() if c.auroc is not None and c.variance is not None
    }
    if not with_auroc:
        return None
    strict = 1 - (1 - confidence) / len(with_auroc)
    plain = [e.interval[0] for c in with_auroc.values() if (e := site_estimate(c, confidence))]
    wide = [e.interval[1] for c in with_auroc.values() if (e := site_estimate(c, strict))]
    site = min(with_auroc, key=lambda name: (with_auroc[name].auroc, name))
    value = with_auroc[site].auroc
    assert value is not None
    return LowestSite(site, value, (min(plain), min(wide)))


def pair_placements(positives: Histogram, negatives: Histogram) -> tuple[Floats, Floats]:
    """Count, for each bin of the positives, the negatives below it and those that overlap it.

    Parameters
    ----------
    positives, negatives
        Two histograms, whose bins of the common grid may differ; of the first the B bins are used,
        of the second the negatives.

    Returns
    -------
    below
        (B,) negatives in bins that lie below the bin.
    overlap
        (B,) negatives in bins that overlap it.
    """
    counts = np.array(negatives.negatives, float)
    starts, ends = np.array(negatives.edges[:-1]), np.array(negatives.edges[1:])
    below_upto = np.concatenate([[0.0], counts.cumsum()])
    low, high = np.array(positives.edges[:-1]), np.array(positives.edges[1:])
    below = below_upto[np.searchsorted(ends, low, side="right")]
    not_above = below_upto[np.searchsorted(starts, high, side="left")]
    return below, not_above - below


def pair_auroc(positives: Histogram, negatives: Histogram) -> tuple[float, float]:
    """AUC_ij of the positives of one site against the negatives of another, or of the same site;
    and its bound.

    Each pair in overlapping bins counts one half, with an error of at most one half.
    """
    below, overlap = pair_placements(positives, negatives)
    p = np.array(positives.positives, float)
    pairs = positives.total_positives * negatives.total_negatives
    return float(p @ (below + overlap / 2) / pairs), float(p @ overlap / 2 / pairs)


def auroc_table(histograms: Sequence[Histogram]) -> list[list[tuple[float, float] | None]]:
    """AUC_ij with its bound for all pairs of sites: row i has the positives of site i, column j the
    negatives of site j. None where there are no such positives or negatives."""
    return [
        [pair_auroc(i, j) if i.total_positives and j.total_negatives else None for j in histograms]
        for i in histograms
    ]


def pooled_auroc(
    histograms: Sequence[Histogram], confidence: float, design_effect: float = 1.0
) -> PooledAuroc | None:
    """Pooled AUROC: over all pairs of all sites, Σ_ij (P_i·N_j / P·N)·AUC_ij, with its bound.

    The variance is DeLong's, from the placement of each unit among all units of the other class;
    all units of a bin have the same placement.

    Parameters
    ----------
    histograms
        Of each site.
    confidence
        Confidence level, in (0.5, 1).
    design_effect
        Factor of the variance (`design_effect`).

    Returns
    -------
    PooledAuroc or None
        None where no site has units of a class.
    """
    P = sum(h.total_positives for h in histograms)
    N = sum(h.total_negatives for h in histograms)
    if P == 0 or N == 0:
        return None
    value = bound = 0.0
    of_positives: list[tuple[Floats, Floats]] = []
    of_negatives: list[tuple[Floats, Floats]] = []
    turned = [_turned(h) for h in histograms]
    for site, site_turned in zip(histograms, turned, strict=True):
        below, overlap = _placements_in_all(site, histograms)
        p = np.array(site.positives, float)
        value += float(p @ (below + overlap / 2)) / (P * N)
        bound += float(p @ overlap) / 2 / (P * N)
        of_positives.append((p, (below + overlap / 2) / N))
        # The placement of a negative is the share of positives above it: exchange the classes.
        below, overlap = _placements_in_all(site_turned, turned)
        of_negatives.append((np.array(site.negatives, float), 1 - (below + overlap / 2) / P))
    variance = _sample_variance(of_positives) / P + _sample_variance(of_negatives) / N
    low, high = logit_interval(value, design_effect * variance, P, N, confidence)
    return PooledAuroc(value, (max(0.0, low - bound), min(1.0, high + bound)), bound)


def histogram_variance(histogram: Histogram) -> float:
    """DeLong's variance of the AUROC of one site from its histogram, as if each unit were another
    patient. Both classes must be present."""
    below, overlap = pair_placements(histogram, histogram)
    turned = _turned(histogram)
    under, beside = pair_placements(turned, turned)
    P, N = histogram.total_positives, histogram.total_negatives
    of_positives = (np.array(histogram.positives, float), (below + overlap / 2) / N)
    of_negatives = (np.array(histogram.negatives, float), 1 - (under + beside / 2) / P)
    return _sample_variance([of_positives]) / P + _sample_variance([of_negatives]) / N


def design_effect(cells: Sequence[Scores]) -> float:
    """Factor by which clustering by patient increases the variance of the within-site AUROC, at
    least 1: its variance from the clustered variances of the sites, divided by that from their
    histograms, in which each unit counts as another patient. The variance of the pooled AUROC is
    multiplied by it, because histograms do not show which units belong to one patient."""
    clustered = alone = 0.0
    for c in cells:
        if c.histogram is not None and c.variance is not None:
            weight = float(c.positives * c.negatives) ** 2
            clustered += weight * c.variance
            alone += weight * histogram_variance(c.histogram)
    return max(1.0, clustered / alone) if alone else 1.0


def _placements_in_all(site: Histogram, others: Sequence[Histogram]) -> tuple[Floats, Floats]:
    """`pair_placements` of a site's positives, summed over the negatives of several sites."""
    below = np.zeros(len(site.positives))
    overlap = np.zeros(len(site.positives))
    for other in others:
        below_of_site, overlap_of_site = pair_placements(site, other)
        below += below_of_site
        overlap += overlap_of_site
    return below, overlap


def _turned(histogram: Histogram) -> Histogram:
    """The histogram with its classes exchanged."""
    return Histogram(
        edges=histogram.edges, positives=histogram.negatives, negatives=histogram.positives
    )


def _sample_variance(groups: list[tuple[Floats, Floats]]) -> float:
    """Sample variance of values, given as pairs of counts and values."""
    counts = np.concatenate([c for c, _ in groups])
    values = np.concatenate([v for _, v in groups])
    total = counts.sum()
    if total < 2:
        return 0.0
    mean = counts @ values / total
    return float(counts @ (values - mean) ** 2 / (total - 1))
