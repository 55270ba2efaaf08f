"""Figures of the summary from the sites' releases: cells, and figures over all sites."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import (
    CalibrationLine,
    ConfusionMatrix,
    Missing,
    OperatingPoint,
    ProbabilityFigures,
    Release,
    Scores,
)
from fedrad.exchange.histogram import GRID, Histogram
from fedrad.exchange.model_names import LOCAL, family_of, home_of, local_of
from fedrad.stats.auroc import (
    auroc_table,
    design_effect,
    folds_sd,
    lowest_site,
    macro_auroc,
    pooled_auroc,
    within_site_auroc,
)
from fedrad.stats.calibration import shift_and_slope
from fedrad.stats.decisions import average_benefit, net_benefit, sum_confusions
from fedrad.stats.new_site import new_site
from fedrad.stats.noise import from_noisy
from fedrad.stats.prevalence import site_only, within_share
from fedrad.stats.site_figures import means_over_sites

from .cells import BENEFIT_THRESHOLDS, benefit_points, cell_of
from .figure_inputs import CALIBRATED, figure_inputs
from .parts import Cell, Decisions, NetBenefitPoint, NewSiteFigures, Overall, Pair


@dataclass(frozen=True)
class ReleasedFigures:
    """The figures on test patients that sites released.

    Attributes
    ----------
    releases
        Site -> its release.
    absent
        Site -> why it released nothing.
    untrained
        Site -> why it has no local-only model, or does not share it.
    operating
        Model -> outcome -> common threshold and calibration.
    by_default
        Model -> outcomes with the default threshold, which was not chosen on patients.
    """

    releases: Mapping[str, Release] = field(default_factory=dict)
    absent: Mapping[str, Missing] = field(default_factory=dict)
    untrained: Mapping[str, Missing] = field(default_factory=dict)
    operating: Mapping[str, Mapping[str, OperatingPoint]] = field(default_factory=dict)
    by_default: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def for_sites(self, sites: Collection[str]) -> "ReleasedFigures":
        """The figures of some sites only."""
        return replace(
            self,
            releases={site: r for site, r in self.releases.items() if site in sites},
            absent={site: why for site, why in self.absent.items() if site in sites},
        )

    def scores(self) -> dict[tuple[str, str, str], Scores]:
        """Scores by (model, site, outcome), with the AUROCs of noisy histograms."""
        return {
            (s.model, site, s.outcome): from_noisy(s)
            for site, release in self.releases.items()
            for s in release.scores
        }


def cells(tested: ReleasedFigures, models: Sequence[str], experiment: Experiment) -> list[Cell]:
    """The cells of all models, sites and outcomes.

    A local-only model has cells at other sites only if the experiment shares local-only models
    (`travel`).

    Parameters
    ----------
    tested
        Released figures.
    models
        Models, as named in the summary.
    experiment
        The experiment.
    """
    released, result = tested.scores(), []
    for model in models:
        trained_at = home_of(model)
        for site in sorted({*tested.releases, *tested.absent}):
            if trained_at not in (None, site) and not experiment.evaluation.travel:
                continue
            for outcome in experiment.outcomes:
                scores = released.get((model, site, outcome))
                if scores is None:
                    missing = tested.absent.get(site)
                    if missing is None and trained_at:
                        missing = tested.untrained.get(trained_at)
                    result.append(
                        Cell(model=model, site=site, outcome=outcome, missing=missing or "not run")
                    )
                    continue
                result.append(
                    cell_of(
                        model,
                        site,
                        scores,
                        tested.operating.get(model, {}).get(outcome),
                        experiment.evaluation.confidence,
                        clustered=experiment.unit == "image",
                    )
                )
    return result


def overall(
    tested: ReleasedFigures, models: Sequence[str], experiment: Experiment
) -> list[Overall]:
    """Figures of each family over all sites: base, local-only at their own site, global, best.

    Parameters
    ----------
    tested
        Released figures of the sites to include.
    models
        Models, as named in the summary.
    experiment
        The experiment.
    """
    released = tested.scores()
    result = []
    for family in dict.fromkeys(map(family_of, models)):
        for outcome in experiment.outcomes:
            of_sites = {}
            for site in sorted(tested.releases):
                name = local_of(site) if family == LOCAL else family
                scores = released.get((name, site, outcome))
                if scores is not None and scores.missing in (None, "one class"):
                    of_sites[site] = scores
            operating = tested.operating.get(family, {}).get(outcome)
            default = outcome in tested.by_default.get(family, ())
            sums = _sums(of_sites, operating, default=default)
            result.append(_overall(family, outcome, of_sites, sums, experiment))
    return result


def _overall(
    family: str,
    outcome: str,
    of_sites: Mapping[str, Scores],
    sums: "_Sums",
    experiment: Experiment,
) -> Overall:
    confidence, clustered = experiment.evaluation.confidence, experiment.unit == "image"
    level = None if clustered else confidence
    some = list(of_sites.values())
    histograms = {site: s.histogram for site, s in of_sites.items() if s.histogram}
    within, mean = within_site_auroc(some, confidence), macro_auroc(some, confidence)
    lowest = lowest_site(of_sites, confidence)
    effect = design_effect(some) if clustered else 1.0
    pooled_estimate = pooled_auroc(list(histograms.values()), confidence, effect)
    alone, share = site_only(some, confidence), within_share(some, confidence)
    next_site = new_site(some, confidence)
    names = list(histograms)
    return Overall(
        model=family,
        outcome=outcome,
        within=within.value if within else None,
        within_ci=within.interval if within else None,
        macro=mean.value if mean else None,
        macro_ci=mean.interval if mean else None,
        worst=lowest.value if lowest else None,
        worst_ci=lowest.interval if lowest else None,
        worst_site=lowest.site if lowest else None,
        pooled=pooled_estimate.value if pooled_estimate else None,
        pooled_ci=pooled_estimate.interval if pooled_estimate else None,
        bound=pooled_estimate.bound if pooled_estimate else None,
        design_effect=effect if clustered and pooled_estimate else None,
        site_only=alone.value if alone else None,
        site_only_ci=alone.interval if alone else None,
        within_share=share.value if share else None,
        within_share_ci=share.interval if share else None,
        new_site=NewSiteFigures(
            mean=next_site.mean,
            ci=next_site.interval,
            prediction=next_site.prediction,
            tau=next_site.tau,
            sites=sum(s.auroc is not None for s in some),
        )
        if next_site
        else None,
        pairs=[
            Pair(positives_of=i, negatives_of=j, auroc=entry[0], bound=entry[1])
            for i, row in zip(names, auroc_table(list(histograms.values())), strict=True)
            for j, entry in zip(names, row, strict=True)
            if entry is not None
        ],
        positives=sum(s.positives for s in some),
        negatives=sum(s.negatives for s in some),
        folds_sd=folds_sd(some),
        threshold=sums.threshold,
        threshold_from=sums.threshold_from,
        decisions=Decisions.of(sum_confusions(sums.decided.values()), level)
        if sums.decided
        else Decisions(),
        threshold_sites=list(sums.decided),
        probabilities=sums.probabilities,
        net_benefit=sums.net_benefit,
    )


@dataclass(frozen=True)
class _Sums:
    """Figures that are sums or means over sites: decisions, probabilities, net benefit."""

    threshold: float | None = None
    threshold_from: Literal["validation", "default", "folds"] | None = None
    decided: Mapping[str, ConfusionMatrix] = field(default_factory=dict)
    """Site -> its counts at the threshold; without sites that withhold them."""
    probabilities: ProbabilityFigures = field(default_factory=ProbabilityFigures)
    net_benefit: list[NetBenefitPoint] = field(default_factory=list)


def _sums(
    of_sites: Mapping[str, Scores], operating: OperatingPoint | None, *, default: bool
) -> _Sums:
    """Add up the figures of all sites for one model and outcome.

    In a cross-validation each fold has its own threshold and calibration at each site, so
    `operating` and `default` are not used.

    Parameters
    ----------
    of_sites
        Site -> its scores.
    operating
        Common threshold and calibration.
    default
        Whether the threshold is the default, not chosen on patients.
    """
    of_folds = any(s.out_of_fold for s in of_sites.values())
    if operating is None and not of_folds:
        return _Sums()
    inputs = {site: figure_inputs(s, operating) for site, s in of_sites.items()}
    with_histogram = {site: b for site, b in inputs.items() if b.histogram is not None}
    if not with_histogram:
        return _Sums()
    calibration = CALIBRATED if of_folds else operating.calibration if operating else None
    by = "site" if of_folds else "common"
    exact = [
        b.probabilities.exact if b.probabilities and b.probabilities.by == by else None
        for b in with_histogram.values()
    ]
    histograms = [b.histogram for b in with_histogram.values() if b.histogram]
    return _Sums(
        threshold=float(GRID[operating.threshold]) if operating and not of_folds else None,
        threshold_from="folds" if of_folds else "default" if default else "validation",
        decided={site: b.decided for site, b in with_histogram.items() if b.decided},
        probabilities=_probabilities(histograms, exact, calibration),
        net_benefit=_benefit(histograms, calibration),
    )


def _probabilities(
    histograms: Sequence[Histogram],
    exact: Sequence[ProbabilityFigures | None],
    calibration: CalibrationLine | None,
) -> ProbabilityFigures:
    """Figures of calibrated probabilities over all sites.

    Intercept and slope are from the histograms. The others are weighted means of the sites' exact
    figures.

    Parameters
    ----------
    histograms
        Histogram of each site.
    exact
        Exact figures of each site, None if it released none.
    calibration
        From the logits of the histograms to calibrated logits.
    """
    if calibration is None:
        return ProbabilityFigures()
    sizes = [h.total_positives + h.total_negatives for h in histograms]
    means = means_over_sites([(n, e) for n, e in zip(sizes, exact, strict=True) if e is not None])
    intercept, slope = shift_and_slope(histograms, calibration)
    return ProbabilityFigures.model_validate(means | {"intercept": intercept, "slope": slope})


def _benefit(
    histograms: Sequence[Histogram], calibration: CalibrationLine | None
) -> list[NetBenefitPoint]:
    if calibration is None:
        return []
    sizes = [h.total_positives + h.total_negatives for h in histograms]
    of_sites = [net_benefit(h, calibration, BENEFIT_THRESHOLDS) for h in histograms]
    return benefit_points([average_benefit(sizes, at) for at in zip(*of_sites, strict=True)])
