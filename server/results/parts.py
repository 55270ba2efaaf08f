"""The parts of a summary that hold figures on test patients."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from fedrad.exchange.figures import ConfusionMatrix, Missing, ProbabilityFigures, RankFigures
from fedrad.exchange.inline import Inline, InlineModel
from fedrad.stats.decisions import rates
from fedrad.stats.intervals import Interval

PROBABILITIES = Inline(names={"intercept": "calibration_intercept", "slope": "calibration_slope"})
"""In `summary.json` these two are called what they are of."""


class Part(InlineModel):
    """Base of the summary's parts. What a later version added to a file is kept."""

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


class Decisions(Part):
    """Rates of what is decided at a threshold, with Wilson's intervals where each unit is a patient
    of its own. None without units to divide by."""

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
        """From counts; without intervals where no confidence is given."""
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


class SiteChoice(Part):
    """What a site's own validation patients chose: a threshold, a logit, with the rates at it, and
    the Brier score by their calibration."""

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
        """`counts`: at the threshold, None where the site withholds them."""
        r = rates(counts) if counts else None
        return cls(
            threshold=threshold,
            sensitivity=r.sensitivity.value if r else None,
            specificity=r.specificity.value if r else None,
            ppv=r.ppv.value if r else None,
            npv=r.npv.value if r else None,
            brier=brier,
        )


class Cell(Part):
    """One model on one site's test patients, one outcome.

    `decisions` are at the common threshold, `site_choice` at the one that the site's own validation
    patients choose (of a local-only model this only). Probabilities are calibrated by all sites'
    validation patients (`calibrated_by` "common"), or the site's own. Of a cross-validation, all
    figures but the AUROC are of all folds together, at the threshold and by the calibration of each
    fold, which the site's own validation patients choose. `epsilon`: every figure comes from a
    noisy histogram. `withheld`: figure, as in the file -> why it is not there.
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
    decisions: Annotated[Decisions, Inline()] = Decisions()
    threshold_sites: list[str] = Field(default_factory=list)
    """Sites behind the figures at the threshold."""
    probabilities: Annotated[ProbabilityFigures, PROBABILITIES] = ProbabilityFigures()
    """Of all sites' test patients: those that add up over sites, and intercept and slope from the
    sites' histograms."""
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
