"""Rounds a release to the digits that its intervals justify: the last step before it leaves.

The functions that compute figures stay exact, so that they can be held against other
implementations. An exact figure of n patients is an equation about their scores that often has one
solution only; its further digits tell the reader nothing.
"""

from fedrad.exchange.figures import (
    CurveBin,
    ModelComparison,
    OutOfFold,
    Probabilities,
    ProbabilityFigures,
    RankFigures,
    Release,
    Scores,
    Subgroup,
)
from fedrad.exchange.rounding import significant, step_of, to_step

VARIANCE_DIGITS = 2
"""Significant digits of a variance: its own standard error is some tens of per cent."""
BRIER_STEP = 0.001
CALIBRATION_STEP = 0.01
"""Of calibration intercept and slope, and of the mean probability in a bin of a curve. Their
standard errors are some hundredths or more with up to thousands of patients."""
CALIBRATION_DIGITS = 3
"""Significant digits of intercept and slope, which have no upper limit."""


def rounded(release: Release) -> Release:
    """A release whose figures of scores have no more digits than are justified. Counts, histograms,
    thresholds and noisy figures are unchanged."""
    return release.model_copy(
        update={
            "scores": [_scores(s) for s in release.scores],
            "comparisons": [_comparison(c) for c in release.comparisons],
            "subgroups": [_subgroup(g) for g in release.subgroups],
        }
    )


def _scores(scores: Scores) -> Scores:
    variance = _variance(scores.variance)
    # The mean over folds is of all patients, so it varies about that many times less than a fold.
    of_fold = variance * len(scores.folds) if variance is not None else None
    return scores.model_copy(
        update={
            "auroc": _to(scores.auroc, step_of(variance)),
            "variance": variance,
            "ranks": _ranks(scores.ranks, variance),
            "probabilities": _probabilities(scores.probabilities) if scores.probabilities else None,
            "site_brier": _to(scores.site_brier, BRIER_STEP),
            "folds": [_to(fold, step_of(of_fold)) for fold in scores.folds],
            "out_of_fold": _out_of_fold(scores.out_of_fold, variance)
            if scores.out_of_fold
            else None,
        }
    )


def _out_of_fold(whole: OutOfFold, variance: float | None) -> OutOfFold:
    return whole.model_copy(
        update={
            "ranks": _ranks(whole.ranks, variance),
            "probabilities": _probabilities(whole.probabilities),
        }
    )


def _ranks(ranks: RankFigures, variance: float | None) -> RankFigures:
    """Figures of ranks have no variance of their own here; that of the AUROC is of their size."""
    step = step_of(variance)
    return RankFigures(**{name: _to(value, step) for name, value in ranks})


def _probabilities(figures: Probabilities) -> Probabilities:
    exact = figures.exact
    return Probabilities(
        by=figures.by,
        exact=ProbabilityFigures(
            brier=_to(exact.brier, BRIER_STEP),
            intercept=_calibration(exact.intercept),
            slope=_calibration(exact.slope),
        ),
        curve=[CurveBin(end=b.end, mean=to_step(b.mean, CALIBRATION_STEP)) for b in figures.curve],
    )


def _comparison(comparison: ModelComparison) -> ModelComparison:
    variance = _variance(comparison.variance)
    difference = _to(comparison.difference, step_of(variance))
    return comparison.model_copy(update={"difference": difference, "variance": variance})


def _subgroup(group: Subgroup) -> Subgroup:
    variance = _variance(group.variance)
    auroc = _to(group.auroc, step_of(variance))
    return group.model_copy(update={"auroc": auroc, "variance": variance})


def _variance(variance: float | None) -> float | None:
    return None if variance is None else significant(variance, VARIANCE_DIGITS)


def _calibration(value: float | None) -> float | None:
    if value is None:
        return None
    return significant(to_step(value, CALIBRATION_STEP), CALIBRATION_DIGITS)


def _to(value: float | None, step: float) -> float | None:
    return None if value is None else to_step(value, step)
