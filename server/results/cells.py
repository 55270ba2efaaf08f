"""A cell of the summary: the figures of one model at one site, from the site's release."""

from collections.abc import Sequence
from itertools import accumulate

from fedrad.exchange.figures import (
    CalibrationLine,
    OperatingPoint,
    Probabilities,
    ProbabilityFigures,
    Scores,
)
from fedrad.exchange.histogram import Histogram
from fedrad.stats.auroc import site_estimate
from fedrad.stats.decisions import NetBenefit, net_benefit

from .figure_inputs import figure_inputs
from .parts import Cell, CurvePoint, Decisions, NetBenefitPoint

BENEFIT_THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Threshold probabilities for net benefit: 0.05 to 0.95."""


def cell_of(
    model: str,
    site: str,
    scores: Scores,
    operating: OperatingPoint | None,
    confidence: float,
    *,
    clustered: bool,
) -> Cell:
    """A cell of the summary.

    Parameters
    ----------
    model, site
        Names.
    scores
        Scores of the model on one outcome, as the site released them.
    operating
        Common threshold and calibration of this model and outcome; None for a local-only model.
    confidence
        Level of the intervals, in (0, 1).
    clustered
        Whether patients may have several units. Proportions then have no interval.
    """
    estimate = site_estimate(scores, confidence)
    counted = scores.missing in (None, "one class")
    total = scores.positives + scores.negatives
    level = None if clustered else confidence
    inputs = figure_inputs(scores, operating)
    histogram, probabilities = inputs.histogram, inputs.probabilities
    curve = curve_points(probabilities, histogram) if probabilities and histogram else []
    return Cell(
        model=model,
        site=site,
        outcome=scores.outcome,
        auroc=estimate.value if estimate else None,
        ci=estimate.interval if estimate else None,
        positives=scores.positives if counted else None,
        negatives=scores.negatives if counted else None,
        prevalence=scores.positives / total if counted and total else None,
        ranks=inputs.ranks,
        decisions=Decisions.of(inputs.decided, level) if inputs.decided else Decisions(),
        site_choice=inputs.site_choice,
        calibrated_by=probabilities.by if probabilities else None,
        probabilities=probabilities.exact if probabilities else ProbabilityFigures(),
        ece=_calibration_error(curve) if curve else None,
        calibration_curve=curve,
        roc=_roc(histogram) if histogram else [],
        net_benefit=_benefit(histogram, inputs.calibration) if histogram else [],
        folds=scores.folds,
        epsilon=scores.epsilon,
        missing=scores.missing,
        withheld=dict(inputs.withheld),
    )


def curve_points(probabilities: Probabilities, h: Histogram) -> list[CurvePoint]:
    """The calibration curve: probabilities as released, observed shares from the histogram."""
    points, start = [], 0
    for b in probabilities.curve:
        end = h.edges.index(b.end)
        positives, negatives = sum(h.positives[start:end]), sum(h.negatives[start:end])
        start = end
        units = positives + negatives
        points.append(CurvePoint(probability=b.mean, observed=positives / units, units=units))
    return points


def _calibration_error(curve: Sequence[CurvePoint]) -> float:
    total = sum(point.units for point in curve)
    gaps = sum(point.units * abs(point.observed - point.probability) for point in curve)
    return gaps / total


def _roc(h: Histogram) -> list[tuple[float, float]]:
    """The ROC curve at the edges of the histogram, from the highest score down; empty without both
    classes."""
    p, n = h.total_positives, h.total_negatives
    if h.noisy or not p or not n:
        return []
    true = [0, *accumulate(reversed(h.positives))]
    false = [0, *accumulate(reversed(h.negatives))]
    return [(f / n, t / p) for f, t in zip(false, true, strict=True)]


def _benefit(h: Histogram, calibration: CalibrationLine | None) -> list[NetBenefitPoint]:
    if calibration is None:
        return []
    return benefit_points(net_benefit(h, calibration, BENEFIT_THRESHOLDS))


def benefit_points(benefits: Sequence[NetBenefit]) -> list[NetBenefitPoint]:
    """Net benefits in the form of the summary."""
    return [
        NetBenefitPoint(threshold=b.threshold, value=b.value, bound=b.bound, treat_all=b.treat_all)
        for b in benefits
    ]
