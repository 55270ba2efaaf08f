"""Inputs of the figures of one model at one site, of one split or of all folds together."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedrad.exchange.figures import (
    CalibrationLine,
    ConfusionMatrix,
    Missing,
    OperatingPoint,
    OutOfFold,
    Probabilities,
    RankFigures,
    Scores,
)
from fedrad.exchange.histogram import GRID, Histogram
from fedrad.stats.decisions import confusion

from .parts import SiteChoice

CALIBRATED = CalibrationLine(intercept=0.0, slope=1.0)
"""Identity, for histograms of all folds: their logits are calibrated already."""


@dataclass(frozen=True)
class FigureInputs:
    """Inputs of the figures of one model at one site, on one outcome.

    Attributes
    ----------
    ranks
        Exact figures that depend on the order of the scores only.
    histogram
        Histogram of the scores.
    probabilities
        Exact figures of calibrated probabilities.
    calibration
        From the logits of the histogram to calibrated logits.
    decided
        Counts at the common threshold, or at the thresholds of the folds.
    site_choice
        Figures at the choices of the site's own validation patients.
    withheld
        Figure -> why it is missing.
    """

    ranks: RankFigures = field(default_factory=RankFigures)
    histogram: Histogram | None = None
    probabilities: Probabilities | None = None
    calibration: CalibrationLine | None = None
    decided: ConfusionMatrix | None = None
    site_choice: SiteChoice = field(default_factory=SiteChoice)
    withheld: Mapping[str, Missing] = field(default_factory=dict)


def figure_inputs(scores: Scores, operating: OperatingPoint | None) -> FigureInputs:
    """The inputs from a site's scores of one model on one outcome.

    Parameters
    ----------
    scores
        Scores as the site released them.
    operating
        Common threshold and calibration; None for a local-only model.
    """
    total = scores.positives + scores.negatives
    if scores.out_of_fold is not None and total:
        return _of_folds(scores.out_of_fold)
    if scores.histogram_missing is not None:
        withheld = dict.fromkeys(("sensitivity", "site_threshold"), scores.histogram_missing)
        return FigureInputs(ranks=scores.ranks, withheld=withheld)
    if scores.histogram is None or not total:
        return FigureInputs(ranks=scores.ranks)
    return _of_split(scores, scores.histogram, operating)


def _of_folds(folds: OutOfFold) -> FigureInputs:
    return FigureInputs(
        ranks=folds.ranks,
        histogram=folds.histogram,
        probabilities=folds.probabilities,
        calibration=CALIBRATED,
        decided=folds.decided,
        site_choice=SiteChoice(brier=folds.probabilities.exact.brier),
        withheld={} if folds.decided else {"sensitivity": "below minimum"},
    )


def _of_split(
    scores: Scores, histogram: Histogram, operating: OperatingPoint | None
) -> FigureInputs:
    withheld: dict[str, Missing] = {}
    decided = confusion(histogram, operating.threshold) if operating else None
    if operating and decided is None:
        withheld["sensitivity"] = "below minimum"
    choice = SiteChoice(brier=scores.site_brier)
    if scores.site_threshold is not None:
        own = confusion(histogram, scores.site_threshold)
        if own is None:
            withheld["site_sensitivity"] = "below minimum"
        choice = SiteChoice.of(float(GRID[scores.site_threshold]), own, scores.site_brier)
    elif scores.epsilon is None:
        withheld["site_threshold"] = "below minimum"
    return FigureInputs(
        ranks=scores.ranks,
        histogram=histogram,
        probabilities=scores.probabilities,
        calibration=operating.calibration if operating else None,
        decided=decided,
        site_choice=choice,
        withheld=withheld,
    )
