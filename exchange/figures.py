"""What a site releases of models' scores on its patients.

Single scores are in one place only: a histogram per model and outcome. A threshold is an
edge of the histogram's grid, and so are the ends of a calibration curve's bins: what stands beside
the histogram divides the patients no further than the histogram does. What folds decide at their
own thresholds does; so it is given for many patients only, in four numbers.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .experiment import NAME_PATTERN, Outcome
from .histogram import CELLS, Histogram
from .inline import Inline, InlineModel
from .wire import Wire

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Variance = Annotated[float, Field(ge=0)]
Edge = Annotated[int, Field(ge=0, le=CELLS)]
"""An edge of the grid; as a threshold: units at or above it are called positive."""
SplitPart = Literal["train", "validation", "test"]
ModelName = Annotated[
    str, StringConstraints(pattern=rf"^(base|global|best|local|local:{NAME_PATTERN})$")
]
"""`best` is the global model of the round that did best on validation patients, `local:SITE` the
model that a site trained alone; in a request `local` is that of the site asked."""

Missing = Literal[
    "one class", "below minimum", "timeout", "declined", "not run", "error", "no units", "held out"
]
"""Why a figure is not there."""


class CalibrationLine(Wire):
    """A calibration: logit(p) = intercept + slope · raw logit."""

    intercept: float
    slope: Annotated[float, Field(gt=0)]


class OperatingPoint(Wire):
    """How a model is used on an outcome, as validation patients decided. `calibration` is None
    where they could decide none."""

    threshold: Edge
    calibration: CalibrationLine | None = None


class CurveBin(Wire):
    """A bin of a calibration curve: it ends at an edge of the histogram and begins where the one
    before ends. `mean`: of the calibrated probabilities in it."""

    end: Edge
    mean: Share


class RankFigures(Wire):
    """Exact figures of the order of one model's scores, beside the AUROC: one field for each entry
    of `RANK_FIGURES` in `fedrad.stats.site_figures`, None where a class is missing.

    `average_precision`: area under precision over recall, in [0, 1].
    """

    average_precision: Share | None = None


class ProbabilityFigures(Wire):
    """Exact figures of calibrated probabilities p against outcomes y: one field for each entry of
    `PROBABILITY_FIGURES` in `fedrad.stats.site_figures`.

    `brier`: mean of (p - y)². `intercept`: calibration in the large, the shift of the calibrated
    logits that would make their mean right (0 is perfect); `slope`: of a logistic regression on
    them (1 is perfect). The last two are None where a class is missing, the slope also where the
    classes are separated.
    """

    brier: Share | None = None
    intercept: float | None = None
    slope: float | None = None


class Probabilities(Wire, InlineModel):
    """Calibrated probabilities against outcomes. `by`: whose calibration, that of all sites'
    validation patients or of the site's own."""

    by: Literal["common", "site"]
    exact: Annotated[ProbabilityFigures, Inline()] = ProbabilityFigures()
    curve: list[CurveBin] = Field(default_factory=list)


class ConfusionMatrix(Wire):
    """Units by class and by what they were called."""

    true_positives: Count
    false_negatives: Count
    false_positives: Count
    true_negatives: Count


class OutOfFold(Wire, InlineModel):
    """One model's scores of all folds together, each unit scored once, by a model that was not
    trained on it. A fold's scores are mapped to probabilities by the calibration that its
    validation units at the site choose; several models' scores they are nonetheless, and so
    secondary.

    `histogram`: of the calibrated logits. `decided`: at each fold's own threshold; None where too
    few patients are on one side.
    """

    ranks: Annotated[RankFigures, Inline()] = RankFigures()
    histogram: Histogram
    probabilities: Probabilities
    decided: ConfusionMatrix | None = None


class Scores(Wire, InlineModel):
    """One model on one outcome of one site.

    `auroc`, its `variance` (clustered by patient where patients have several units) and `ranks`
    are exact, computed at the site; None where a class is missing.
    `site_threshold` and `site_brier` belong to the threshold and the calibration that the site's
    own validation patients choose. `folds`: AUROC of each fold of a cross-validation, None where
    it is withheld; `auroc` is then their mean, counts are patients of all folds, and `out_of_fold`
    stands in place of ranks, histogram, probabilities and thresholds. `epsilon`: the histogram,
    with the counts, carries noise, and nothing exact is given. `histogram_missing`: why there is no
    histogram beside exact figures, where the site's policy shares none. `missing` says why nothing
    is given (then the counts are 0) or, as "one class", why there is no AUROC.
    """

    model: ModelName
    outcome: Outcome
    positives: Count = 0
    negatives: Count = 0
    auroc: Share | None = None
    variance: Variance | None = None
    ranks: Annotated[RankFigures, Inline()] = RankFigures()
    histogram: Histogram | None = None
    probabilities: Probabilities | None = None
    site_threshold: Edge | None = None
    site_brier: Share | None = None
    folds: list[Share | None] = Field(default_factory=list)
    out_of_fold: OutOfFold | None = None
    epsilon: Annotated[float, Field(gt=0)] | None = None
    histogram_missing: Missing | None = None
    missing: Missing | None = None


class ModelComparison(Wire):
    """AUROC of `model` minus that of `other` on the same units: DeLong's paired variance."""

    model: ModelName
    other: ModelName
    outcome: Outcome
    difference: Annotated[float, Field(ge=-1, le=1)] | None = None
    variance: Variance | None = None
    missing: Missing | None = None


class Subgroup(Wire):
    """The global model on the units of one group. `group` counts the groups that the experiment
    names for the column, from 0."""

    outcome: Outcome
    column: Outcome
    group: Count
    positives: Count = 0
    negatives: Count = 0
    auroc: Share | None = None
    variance: Variance | None = None
    missing: Missing | None = None


class Release(Wire):
    """All figures that a site releases on one part of its patients, once an experiment.

    `epsilon`: what all noisy histograms of this part cost together; None without noise.
    """

    kind: Literal["release"] = "release"
    part: SplitPart
    scores: list[Scores]
    comparisons: list[ModelComparison] = Field(default_factory=list)
    subgroups: list[Subgroup] = Field(default_factory=list)
    epsilon: float | None = None
