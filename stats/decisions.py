"""Decisions at a threshold: counts, rates and net benefit."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.figures import CalibrationLine, ConfusionMatrix
from fedrad.exchange.histogram import GRID, Histogram

from .intervals import Interval, wilson


@dataclass(frozen=True)
class Proportion:
    """A number of units, `part`, among `of` units."""

    part: int
    of: int

    @property
    def value(self) -> float | None:
        """Share in [0, 1]; None if there are no units."""
        return self.part / self.of if self.of else None

    def interval(self, confidence: float | None) -> Interval | None:
        """Wilson's interval; None if no confidence is given, or there are no units."""
        return None if confidence is None else wilson(self.part, self.of, confidence)


@dataclass(frozen=True)
class Rates:
    """Sensitivity, specificity, and positive and negative predictive value."""

    sensitivity: Proportion
    specificity: Proportion
    ppv: Proportion
    npv: Proportion


def rates(c: ConfusionMatrix) -> Rates:
    """Sensitivity, specificity and predictive values from the counts."""
    return Rates(
        sensitivity=Proportion(c.true_positives, c.true_positives + c.false_negatives),
        specificity=Proportion(c.true_negatives, c.true_negatives + c.false_positives),
        ppv=Proportion(c.true_positives, c.true_positives + c.false_positives),
        npv=Proportion(c.true_negatives, c.true_negatives + c.false_negatives),
    )


def count_decisions(called: NDArray[np.bool_], positive: NDArray[np.bool_]) -> ConfusionMatrix:
    """Count units by predicted class (n,) and by true class (n,)."""
    return ConfusionMatrix(
        true_positives=int((called & positive).sum()),
        false_negatives=int((~called & positive).sum()),
        false_positives=int((called & ~positive).sum()),
        true_negatives=int((~called & ~positive).sum()),
    )


def sum_confusions(of_sites: Collection[ConfusionMatrix]) -> ConfusionMatrix:
    """The counts of all sites together."""
    return ConfusionMatrix(
        true_positives=sum(c.true_positives for c in of_sites),
        false_negatives=sum(c.false_negatives for c in of_sites),
        false_positives=sum(c.false_positives for c in of_sites),
        true_negatives=sum(c.true_negatives for c in of_sites),
    )


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit at a threshold probability; the exact value lies within `value` ± `bound`.
    `treat_all` is the net benefit of classifying all patients as positive."""

    threshold: float
    value: float
    bound: float
    treat_all: float


def confusion(histogram: Histogram, threshold: int) -> ConfusionMatrix | None:
    """Count units on both sides of a threshold, an edge of the grid. None where it lies inside a
    bin: then too few patients are on one side of it for the site to release their number."""
    if threshold not in histogram.edges:
        return None
    at = histogram.edges.index(threshold)
    below_p, below_n = sum(histogram.positives[:at]), sum(histogram.negatives[:at])
    return ConfusionMatrix(
        true_positives=histogram.total_positives - below_p,
        false_negatives=below_p,
        false_positives=histogram.total_negatives - below_n,
        true_negatives=below_n,
    )


def net_benefit(
    histogram: Histogram, calibration: CalibrationLine, thresholds: Sequence[float]
) -> list[NetBenefit]:
    """Net benefit TP/n - FP/n · t/(1-t) at threshold probabilities t.

    If a threshold lies inside a bin, it is unknown on which side of it the units of the bin are.
    Then the value is the middle between the smallest and the largest possible net benefit, and the
    bound is half their difference.

    Parameters
    ----------
    histogram
        Of raw logits.
    calibration
        Maps raw logits to those of probabilities.
    thresholds
        Threshold probabilities t, in (0, 1).

    Returns
    -------
    list
        Net benefit at each threshold.

    References
    ----------
    Vickers & Elkin 2006, Medical Decision Making 26:565.
    """
    edges = GRID[np.array(histogram.edges)]
    positives, negatives = np.array(histogram.positives), np.array(histogram.negatives)
    total = positives.sum() + negatives.sum()
    benefits = []
    for t in thresholds:
        raw = (np.log(t / (1 - t)) - calibration.intercept) / calibration.slope
        certain = edges[:-1] >= raw
        possible = edges[1:] > raw
        certain[0], possible[-1] = False, True  # scores beyond the grid lie in its outermost bins
        open_ = possible & ~certain
        odds = t / (1 - t)
        sure = positives[certain].sum() - odds * negatives[certain].sum()
        most, least = positives[open_].sum(), -odds * negatives[open_].sum()
        benefits.append(
            NetBenefit(
                threshold=t,
                value=float(sure + (most + least) / 2) / total,
                bound=float(most - least) / 2 / total,
                treat_all=float(positives.sum() - odds * negatives.sum()) / total,
            )
        )
    return benefits


def average_benefit(sizes: Sequence[int], of_sites: Sequence[NetBenefit]) -> NetBenefit:
    """Net benefit per unit over all sites at one threshold; `sizes`: units of each site."""
    total = sum(sizes)

    def mean(values: Iterable[float]) -> float:
        return sum(n * v for n, v in zip(sizes, values, strict=True)) / total

    return NetBenefit(
        threshold=of_sites[0].threshold,
        value=mean(b.value for b in of_sites),
        bound=mean(b.bound for b in of_sites),
        treat_all=mean(b.treat_all for b in of_sites),
    )
