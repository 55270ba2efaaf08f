"""The parts of a summary that hold figures on test patients."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from fedrad.exchange.figures import ConfusionMatrix, Missing, ProbabilityFigures, RankFigures
from fedrad.exchange.inline import Inline, InlineModel
from fedrad.stats.decisions import rates
from fedrad.stats.intervals import Interval

PROBABILITIES = Inline(names={"intercept": "calibration_intercept", "slope": "calibration_slope"})
"""Names of these two figures in `summary.json`."""


class SummaryPart(InlineModel):
    """Base of the parts of a summary. Unknown fields, of a later version, are preserved."""

    model_config = ConfigDict(frozen=True, extra="allow")


class CurvePoint(SummaryPart):
    """A bin of a calibration curve: mean probability, observed share with the outcome, units."""

    probability: float
    observed: float
    units: int


class NetBenefitPoint(SummaryPart):
    """Net benefit per patient at a threshold probability.

    The exact value lies within ± `bound`. `treat_all` is the net benefit of calling every patient
    positive; calling every patient negative has a net benefit of 0.
    """

    threshold: float
    value: float
    bound: float
    treat_all: float


class Decisions(SummaryPart):
    """Rates at a threshold.

    Intervals are Wilson's, and None if patients may have several units. A rate is None if its
    denominator is 0.
    """

    sensitivity: float | None = None
    sensitivity_ci: Interval | None = None
    specificity: float | None = None
    specificity_ci: Interval | None = None
    ppv: float | None = None
    ppv_ci: Interval | None = None
    npv: float | None = None
    npv_ci: Interval | None = None

    @classmethod
    def of(cls, counts: ConfusionMatrix, confidence: float | None) -> "Decisions":
        """Rates of counts, with intervals of level `confidence`, or without if it is None."""
        r = rates(counts)
        return cls(
            sensitivity=r.sensitivity.value,
            sensitivity_ci=r.sensitivity.interval(confidence),
            specificity=r.specificity.value,
            specificity_ci=r.specificity.interval(confidence),
            ppv=r.ppv.value,
            ppv_ci=r.ppv.interval(confidence),
            npv=r.npv.value,
            npv_ci=r.npv.interval(confidence),
        )


class SiteChoice(SummaryPart):
    """Figures with the choices of the site's own validation patients: rates at their threshold (a
    logit), and the Brier score with their calibration."""

    threshold: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    ppv: float | None = None
    npv: float | None = None
    brier: float | None = None

    @classmethod
    def of(
        cls, threshold: float, counts: ConfusionMatrix | None, brier: float | None
    ) -> "SiteChoice":
        """Figures from the counts at the threshold, None if the site withholds them."""
        r = rates(counts) if counts else None
        return cls(
            threshold=threshold,
            sensitivity=r.sensitivity.value if r else None,
            specificity=r.specificity.value if r else None,
            ppv=r.ppv.value if r else None,
            npv=r.npv.value if r else None,
            brier=brier,
        )


class Cell(SummaryPart):
    """One model on one site's test patients, one outcome.

    In a cross-validation, all figures except the AUROC are of all folds together, with the
    threshold and calibration that the site's own validation patients chose in each fold.

    Attributes
    ----------
    decisions
        Rates at the common threshold; empty for a local-only model.
    site_choice
        Rates at the threshold that the site's own validation patients chose.
    calibrated_by
        Validation patients behind the calibration: of all sites ("common") or of the site.
    epsilon
        Privacy loss, if every figure is from a noisy histogram.
    withheld
        Figure, as named in the file -> why it is missing.
    """

    model: str
    site: str
    outcome: str
    auroc: float | None = None
    ci: Interval | None = None
    positives: int | None = None
    negatives: int | None = None
    prevalence: float | None = None
    ranks: Annotated[RankFigures, Inline()] = RankFigures()
    decisions: Annotated[Decisions, Inline()] = Decisions()
    site_choice: Annotated[SiteChoice, Inline("site_")] = SiteChoice()
    calibrated_by: Literal["common", "site"] | None = None
    probabilities: Annotated[ProbabilityFigures, PROBABILITIES] = ProbabilityFigures()
    ece: float | None = None
    """Expected calibration error: mean distance of share and probability over the curve's bins."""
    calibration_curve: list[CurvePoint] = Field(default_factory=list)
    roc: list[tuple[float, float]] = Field(default_factory=list)
    """(1 - specificity, sensitivity) at each edge of the released histogram, from (0, 0) on."""
    net_benefit: list[NetBenefitPoint] = Field(default_factory=list)
    folds: list[float | None] = Field(default_factory=list)
    """AUROC of each fold of a cross-validation; `auroc` is their mean."""
    epsilon: float | None = None
    missing: Missing | None = None
    withheld: dict[str, str] = Field(default_factory=dict)


class Pair(SummaryPart):
    """AUROC of the positives of one site and the negatives of another, from their histograms. The
    exact value lies within ± `bound`."""

    positives_of: str
    negatives_of: str
    auroc: float
    bound: float


class NewSiteFigures(SummaryPart):
    """Expected AUROC at a new hospital of the same kind, from a random-effects model.

    Attributes
    ----------
    mean, ci
        Mean over hospitals and its interval.
    prediction
        Prediction interval of the true AUROC at the new hospital.
    tau
        Standard deviation of the true logits between sites.
    sites
        Number of sites.
    """

    mean: float
    ci: Interval
    prediction: Interval
    tau: float
    sites: int


class Overall(SummaryPart):
    """One model over all sites, one outcome. `model` "local": the own model of each site."""

    model: str
    outcome: str
    within: float | None = None
    within_ci: Interval | None = None
    folds_sd: float | None = None
    """Standard deviation of the within-site AUROC over folds, which is no interval."""
    macro: float | None = None
    macro_ci: Interval | None = None
    worst: float | None = None
    worst_ci: Interval | None = None
    worst_site: str | None = None
    pooled: float | None = None
    pooled_ci: Interval | None = None
    bound: float | None = None
    design_effect: float | None = None
    """With `unit = "image"`: factor on the variance of the pooled AUROC, because a patient may have
    several images."""
    site_only: float | None = None
    site_only_ci: Interval | None = None
    within_share: float | None = None
    within_share_ci: Interval | None = None
    new_site: NewSiteFigures | None = None
    """None for fewer than four sites."""
    pairs: list[Pair] = Field(default_factory=list)
    positives: int = 0
    negatives: int = 0
    threshold: float | None = None
    """Common threshold, a logit."""
    threshold_from: Literal["validation", "default", "folds"] | None = None
    """"default": a logit of 0, because no site could release both classes of its validation
    patients. "folds": each fold has its own threshold at each site, so `threshold` is None."""
    decisions: Annotated[Decisions, Inline()] = Decisions()
    threshold_sites: list[str] = Field(default_factory=list)
    """Sites whose counts are in `decisions`."""
    probabilities: Annotated[ProbabilityFigures, PROBABILITIES] = ProbabilityFigures()
    """On the test patients of all sites: weighted means, and intercept and slope from the sites'
    histograms."""
    net_benefit: list[NetBenefitPoint] = Field(default_factory=list)


class ComparisonFigures(SummaryPart):
    """Paired difference: AUROC of `model` minus AUROC of `other` on the same test patients.

    If `site` is None, it is over all sites, weighted by pairs like the within-site AUROC. `p_holm`
    is corrected for all `tests` of its family: the differences over all sites are one family, the
    differences at single sites another.
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


class SubgroupFigures(SummaryPart):
    """The global model in a group of a column. Within-site over all sites if `site` is None."""

    outcome: str
    column: str
    group: str
    site: str | None = None
    auroc: float | None = None
    ci: Interval | None = None
    positives: int | None = None
    negatives: int | None = None
    missing: Missing | None = None


class Gap(SummaryPart):
    """The largest difference of within-site AUROC between two groups of a column.

    The level of its interval is 1 - α / number of pairs of groups (Bonferroni), because it is the
    largest of these differences.
    """

    outcome: str
    column: str
    highest: str
    lowest: str
    gap: float
    ci: Interval | None = None
