"""The parts of a summary that hold figures on test patients."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fedrad.exchange.figures import Missing
from fedrad.stats.intervals import Interval


class Part(BaseModel):
    """Base of the summary's parts."""

    model_config = ConfigDict(frozen=True, extra="allow")


class CurvePoint(Part):
    """A bin of a calibration curve: mean probability, share with the outcome, units."""

    probability: float
    observed: float
    units: int


class NetBenefitPoint(Part):
    """Net benefit at a threshold probability, per patient. The exact one lies within ± `bound`;
    `treat_all` is that of calling everybody positive, that of nobody is 0."""

    threshold: float
    value: float
    bound: float
    treat_all: float


class Cell(Part):
    """One model on one site's test patients, one outcome.

    `sensitivity`, `specificity`, `ppv` and `npv` are at the common threshold, those named `site_`
    at the one that the site's own validation patients choose (of a local-only model these only).
    Probabilities are calibrated by all sites' validation patients (`calibrated_by` "common"), or
    the site's own; `site_brier` is by the site's own in either case. Of a cross-validation, all
    figures but the AUROC are of all folds together, at the threshold and by the calibration of each
    fold, which the site's own validation patients choose. `epsilon`: every figure comes from a
    noisy histogram. `withheld`: figure -> why it is not there.
    """

    model: str
    site: str
    outcome: str
    auroc: float | None = None
    ci: Interval | None = None
    positives: int | None = None
    negatives: int | None = None
    prevalence: float | None = None
    average_precision: float | None = None
    sensitivity: float | None = None
    sensitivity_ci: Interval | None = None
    specificity: float | None = None
    specificity_ci: Interval | None = None
    ppv: float | None = None
    ppv_ci: Interval | None = None
    npv: float | None = None
    npv_ci: Interval | None = None
    site_threshold: float | None = None
    site_sensitivity: float | None = None
    site_specificity: float | None = None
    site_ppv: float | None = None
    site_npv: float | None = None
    calibrated_by: Literal["common", "site"] | None = None
    brier: float | None = None
    site_brier: float | None = None
    calibration_intercept: float | None = None
    calibration_slope: float | None = None
    ece: float | None = None
    """Expected calibration error: mean distance of share and probability over the curve's bins."""
    calibration_curve: list[CurvePoint] = Field(default_factory=list)
    roc: list[tuple[float, float]] = Field(default_factory=list)
    """1 - specificity and sensitivity at each edge of the released histogram, from (0, 0) on."""
    net_benefit: list[NetBenefitPoint] = Field(default_factory=list)
    folds: list[float | None] = Field(default_factory=list)
    """AUROC of each fold of a cross-validation; `auroc` is their mean."""
    epsilon: float | None = None
    missing: Missing | None = None
    withheld: dict[str, str] = Field(default_factory=dict)


class Pair(Part):
    """AUC_ij: positives of one site against negatives of another, from their histograms. The exact
    one lies within ± `bound`."""

    positives_of: str
    negatives_of: str
    auroc: float
    bound: float


class NewSiteFigures(Part):
    """What to expect at one more hospital of the same kind: random-effects mean, its interval, and
    the prediction interval of that hospital's true AUROC. `tau`: spread of logits between sites."""

    mean: float
    ci: Interval
    prediction: Interval
    tau: float
    sites: int


class Overall(Part):
    """One model over all sites, one outcome. `model` "local" is each site's own model at home."""

    model: str
    outcome: str
    within: float | None = None
    within_ci: Interval | None = None
    folds_sd: float | None = None
    """Standard deviation of the within-site AUROC over folds; no interval."""
    macro: float | None = None
    macro_ci: Interval | None = None
    worst: float | None = None
    worst_ci: Interval | None = None
    worst_site: str | None = None
    pooled: float | None = None
    pooled_ci: Interval | None = None
    bound: float | None = None
    design_effect: float | None = None
    """With `unit = "image"`: by how much the variance of the pooled AUROC was enlarged for images
    of one patient."""
    site_only: float | None = None
    site_only_ci: Interval | None = None
    within_share: float | None = None
    within_share_ci: Interval | None = None
    new_site: NewSiteFigures | None = None
    """From four sites on."""
    pairs: list[Pair] = Field(default_factory=list)
    positives: int = 0
    negatives: int = 0
    threshold: float | None = None
    """Common threshold, a logit."""
    threshold_from: Literal["validation", "default", "folds"] | None = None
    """"default" is a logit of 0, where no site could release both classes of its validation
    patients; "folds": each fold's own at each site, so that `threshold` is None."""
    sensitivity: float | None = None
    sensitivity_ci: Interval | None = None
    specificity: float | None = None
    specificity_ci: Interval | None = None
    ppv: float | None = None
    ppv_ci: Interval | None = None
    npv: float | None = None
    npv_ci: Interval | None = None
    threshold_sites: list[str] = Field(default_factory=list)
    """Sites behind the figures at the threshold."""
    brier: float | None = None
    calibration_intercept: float | None = None
    calibration_slope: float | None = None
    """Of the calibrated logits of all sites' test patients, from their histograms."""
    net_benefit: list[NetBenefitPoint] = Field(default_factory=list)


class ComparisonFigures(Part):
    """AUROC of `model` minus that of `other` on the same test patients, paired; over all sites
    (weighted by pairs, as within-site) where `site` is None.

    `p_holm` holds for all `tests` of its family together: the differences over all sites are one
    family, those at single sites another.
    """

    model: str
    other: str
    outcome: str
    site: str | None = None
    difference: float | None = None
    ci: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    tests: int = 0
    missing: Missing | None = None


class SubgroupFigures(Part):
    """The global model in a group of a column; within-site over all sites where `site` is None."""

    outcome: str
    column: str
    group: str
    site: str | None = None
    auroc: float | None = None
    ci: Interval | None = None
    positives: int | None = None
    negatives: int | None = None
    missing: Missing | None = None


class Gap(Part):
    """The largest difference of within-site AUROC between two groups of a column.

    Its interval is at a confidence of 1 - α / number of pairs of groups (Bonferroni), for it is the
    largest of so many.
    """

    outcome: str
    column: str
    highest: str
    lowest: str
    gap: float
    ci: Interval | None = None
