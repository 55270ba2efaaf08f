"""Figures that a site releases about models' scores on its patients.

Scores of single patients enter one figure only: a histogram per model and outcome. A threshold is
an edge of the histogram's grid, and so is the end of each bin of a calibration curve, so these
divide the patients no further than the histogram does. Decisions at the folds' own thresholds do
divide them further; so they are given as four counts, and for many patients only.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from fedrad.models.settings import Fraction

from .bounds import (
    MOST_FOLDS,
    MOST_MODELS,
    MOST_OUTCOMES,
    MOST_SUBGROUPS,
    Count,
    Epsilon,
    LogitLine,
    Variance,
)
from .histogram import CELLS, Histogram
from .inline import Inline, InlineModel
from .model_names import LOCAL, local_of
from .names import NAME_PATTERN, Outcome
from .wire import Wire

Edge = Annotated[int, Field(ge=0, le=CELLS)]
"""An edge of the grid. As a threshold: units at or above it are classified as positive."""
SplitPart = Literal["train", "validation", "test"]
ModelName = Annotated[
    str, StringConstraints(pattern=rf"^(base|global|best|{LOCAL}|{local_of(NAME_PATTERN)})$")
]
"""`best` is the global model of the round with the best figure on validation patients;
`local:SITE` is the local-only model of a site. In a request, `local` means the local-only model of
the site that receives it."""

Missing = Literal[
    "one class", "below minimum", "timeout", "declined", "not run", "error", "no units", "held out"
]
"""Why a figure is missing."""


class CalibrationLine(Wire):
    """A calibration: logit(p) = intercept + slope · raw logit."""

    intercept: LogitLine
    slope: Annotated[float, Field(gt=0, le=10**6)]


class OperatingPoint(Wire):
    """Threshold and calibration of a model for an outcome, chosen on validation patients.
    `calibration` is None where there are too few to choose one."""

    threshold: Edge
    calibration: CalibrationLine | None = None


class CurveBin(Wire):
    """A bin of a calibration curve: it ends at an edge of the histogram and begins where the bin
    before it ends. `mean` is the mean of the calibrated probabilities in it."""

    end: Edge
    mean: Fraction


class RankFigures(Wire):
    """Exact figures of the ranks of one model's scores, other than the AUROC: one field for each
    entry of `RANK_FIGURES` in `fedrad.stats.site_figures`, None where a class is missing.

    `average_precision`: area under precision over recall, in [0, 1].
    """

    average_precision: Fraction | None = None


class ProbabilityFigures(Wire):
    """Exact figures of calibrated probabilities p against outcomes y: one field for each entry of
    `PROBABILITY_FIGURES` in `fedrad.stats.site_figures`.

    `brier`: mean of (p - y)². `intercept`: calibration in the large, the shift of the calibrated
    logits that would make their mean right (0 is perfect); `slope`: of a logistic regression on
    them (1 is perfect). The last two are None where a class is missing, the slope also where the
    classes are separated.
    """

    brier: Fraction | None = None
    intercept: LogitLine | None = None
    slope: LogitLine | None = None


class Probabilities(Wire, InlineModel):
    """Figures of calibrated probabilities. `by` tells whether the calibration was chosen on the
    validation patients of all sites (`common`) or of this site (`site`)."""

    by: Literal["common", "site"]
    exact: Annotated[ProbabilityFigures, Inline()] = ProbabilityFigures()
    curve: list[CurveBin] = Field(default_factory=list, max_length=CELLS)


class ConfusionMatrix(Wire):
    """Numbers of units by true and by predicted class."""

    true_positives: Count
    false_negatives: Count
    false_positives: Count
    true_negatives: Count


class OutOfFold(Wire, InlineModel):
    """Figures of one model's scores pooled over all folds. Each unit is scored once, by a model
    that was not trained on it. The scores of each fold are calibrated on its validation units at
    the site. As they come from several models, these figures are secondary.

    `histogram` is that of the calibrated logits. `decided` counts decisions at each fold's own
    threshold; it is None where too few patients are on one side of it.
    """

    ranks: Annotated[RankFigures, Inline()] = RankFigures()
    histogram: Histogram
    probabilities: Probabilities
    decided: ConfusionMatrix | None = None


class Scores(Wire, InlineModel):
    """One model on one outcome of one site.

    `auroc`, its `variance` (clustered by patient where patients have several units) and `ranks`
    are exact and computed at the site; None where a class is missing.
    `site_threshold` and `site_brier` belong to the threshold and the calibration that are chosen
    on the site's own validation patients. `folds` holds the AUROC of each fold of a
    cross-validation, None where it is withheld; then `auroc` is their mean, the counts are patients
    of all folds, and `out_of_fold` replaces ranks, histogram, probabilities and thresholds.
    If `epsilon` is set, histogram and counts carry noise, and there are no exact figures.
    `histogram_missing` is why there is no histogram, where the site's policy shares none.
    `missing` is why there are no figures at all (then the counts are 0) or, as "one class", why
    there is no AUROC.
    """

    model: ModelName
    outcome: Outcome
    positives: Count = 0
    negatives: Count = 0
    auroc: Fraction | None = None
    variance: Variance | None = None
    ranks: Annotated[RankFigures, Inline()] = RankFigures()
    histogram: Histogram | None = None
    probabilities: Probabilities | None = None
    site_threshold: Edge | None = None
    site_brier: Fraction | None = None
    folds: list[Fraction | None] = Field(default_factory=list, max_length=MOST_FOLDS)
    out_of_fold: OutOfFold | None = None
    epsilon: Epsilon | None = None
    histogram_missing: Missing | None = None
    missing: Missing | None = None


class ModelComparison(Wire):
    """AUROC of `model` minus AUROC of `other` on the same units, with DeLong's paired variance."""

    model: ModelName
    other: ModelName
    outcome: Outcome
    difference: Annotated[float, Field(ge=-1, le=1)] | None = None
    variance: Variance | None = None
    missing: Missing | None = None


class Subgroup(Wire):
    """The global model on the units of one group. `group` is the number of the group, from 0, among
    those that the experiment names for the column."""

    outcome: Outcome
    column: Outcome
    group: Count
    positives: Count = 0
    negatives: Count = 0
    auroc: Fraction | None = None
    variance: Variance | None = None
    missing: Missing | None = None


class Release(Wire):
    """All figures that a site releases on one part of its patients, once per experiment.

    `epsilon` is the total privacy cost of all noisy histograms of this part; None without noise.
    """

    kind: Literal["release"] = "release"
    part: SplitPart
    scores: list[Scores] = Field(max_length=MOST_MODELS * MOST_OUTCOMES)
    comparisons: list[ModelComparison] = Field(
        default_factory=list, max_length=MOST_MODELS * MOST_OUTCOMES
    )
    subgroups: list[Subgroup] = Field(default_factory=list, max_length=MOST_SUBGROUPS)
    epsilon: Epsilon | None = None
