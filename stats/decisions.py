"""Thresholds, and what is decided at them, from histograms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fedrad.exchange.figures import Line
from fedrad.exchange.histogram import CELLS, GRID, Histogram


@dataclass(frozen=True)
class Confusion:
    """Units by class and by score at or above a threshold."""

    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int

    def __add__(self, other: "Confusion") -> "Confusion":
        """Units of both."""
        return Confusion(
            self.true_positives + other.true_positives,
            self.false_negatives + other.false_negatives,
            self.false_positives + other.false_positives,
            self.true_negatives + other.true_negatives,
        )


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit at a threshold probability; the exact one lies within ± `bound`."""

    threshold: float
    value: float
    bound: float
    treat_all: float


def best_threshold(histograms: Sequence[Histogram]) -> int | None:
    """Edge of the grid that maximises sensitivity + specificity (Youden 1950) over summed
    histograms.

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
    return int(best[len(best) // 2])


def confusion(histogram: Histogram, threshold: int) -> Confusion | None:
    """Units on either side of an edge of the grid; None where it cuts a bin: too few patients lie
    on one side of it for the site to tell."""
    if threshold not in histogram.edges:
        return None
    at = histogram.edges.index(threshold)
    below_p, below_n = sum(histogram.positives[:at]), sum(histogram.negatives[:at])
    return Confusion(
        true_positives=histogram.total_positives - below_p,
        false_negatives=below_p,
        false_positives=histogram.total_negatives - below_n,
        true_negatives=below_n,
    )


def net_benefit(
    histogram: Histogram, calibration: Line, thresholds: Sequence[float]
) -> list[NetBenefit]:
    """Net benefit TP/n - FP/n · t/(1-t) at threshold probabilities t (Vickers & Elkin 2006), of
    probabilities by a calibration.

    A threshold inside a bin leaves open where its units lie: the value is the middle between the
    least and the most they allow, and the bound half the difference. `treat_all`: of calling
    everybody positive.
    """
    edges = GRID[np.array(histogram.edges)]
    positives, negatives = np.array(histogram.positives), np.array(histogram.negatives)
    total = positives.sum() + negatives.sum()
    found = []
    for t in thresholds:
        raw = (np.log(t / (1 - t)) - calibration.intercept) / calibration.slope
        certain = edges[:-1] >= raw
        possible = edges[1:] > raw
        certain[0], possible[-1] = False, True  # scores beyond the grid lie in its outermost bins
        open_ = possible & ~certain
        odds = t / (1 - t)
        sure = positives[certain].sum() - odds * negatives[certain].sum()
        most, least = positives[open_].sum(), -odds * negatives[open_].sum()
        found.append(
            NetBenefit(
                threshold=t,
                value=float(sure + (most + least) / 2) / total,
                bound=float(most - least) / 2 / total,
                treat_all=float(positives.sum() - odds * negatives.sum()) / total,
            )
        )
    return found


def average_benefit(sizes: Sequence[int], of_sites: Sequence[NetBenefit]) -> NetBenefit:
    """Net benefit per patient over all sites, at one threshold; `sizes`: units of each site."""
    total = sum(sizes)

    def mean(values: Iterable[float]) -> float:
        return sum(n * v for n, v in zip(sizes, values, strict=True)) / total

    return NetBenefit(
        threshold=of_sites[0].threshold,
        value=mean(b.value for b in of_sites),
        bound=mean(b.bound for b in of_sites),
        treat_all=mean(b.treat_all for b in of_sites),
    )
