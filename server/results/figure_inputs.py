"""What the figures of one model at one site rest on, of one split or of all folds together."""

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
"""From the calibrated logits of an out-of-fold histogram to calibrated logits."""


@dataclass(frozen=True)
class Basis:
    """`calibration`: from the histogram's logits to calibrated ones. `decided`: at the common
    threshold, or at those of the folds. `withheld`: figure -> why it is not there."""

    ranks: RankFigures = field(default_factory=RankFigures)
    histogram: Histogram | None = None
    probabilities: Probabilities | None = None
    calibration: CalibrationLine | None = None
    decided: ConfusionMatrix | None = None
    site_choice: SiteChoice = field(default_factory=SiteChoice)
    withheld: Mapping[str, Missing] = field(default_factory=dict)


def basis_of(scores: Scores, operating: OperatingPoint | None) -> Basis:
    """What a site released of one model on one outcome.

    Parameters
    ----------
    scores
        As the site sent them.
    operating
        Common threshold and calibration; None for a local-only model.
    """
    total = scores.positives + scores.negatives
    if scores.out_of_fold is not None and total:
        return _of_folds(scores.out_of_fold)
    if scores.histogram_missing is not None:
        withheld = dict.fromkeys(("sensitivity", "site_threshold"), scores.histogram_missing)
        return Basis(ranks=scores.ranks, withheld=withheld)
    if scores.histogram is None or not total:
        return Basis(ranks=scores.ranks)
    return _of_split(scores, scores.histogram, operating)


def _of_folds(of_all: OutOfFold) -> Basis:
    return Basis(
        ranks=of_all.ranks,
        histogram=of_all.histogram,
        probabilities=of_all.probabilities,
        calibration=CALIBRATED,
        decided=of_all.decided,
        site_choice=SiteChoice(brier=of_all.probabilities.exact.brier),
        withheld={} if of_all.decided else {"sensitivity": "below minimum"},
    )


def _of_split(scores: Scores, histogram: Histogram, operating: OperatingPoint | None) -> Basis:
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
    return Basis(
        ranks=scores.ranks,
        histogram=histogram,
        probabilities=scores.probabilities,
        calibration=operating.calibration if operating else None,
        decided=decided,
        site_choice=choice,
        withheld=withheld,
    )
