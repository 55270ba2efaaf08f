"""From what sites released to the figures of the summary: cells, and figures over all sites."""

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

from .cells import BENEFIT_THRESHOLDS, cell_of, points_of
from .figure_inputs import CALIBRATED, basis_of
from .parts import Cell, Decisions, NetBenefitPoint, NewSiteFigures, Overall, Pair

LOCAL = "local"
"""Family name of the local-only models, each tested at home."""


@dataclass(frozen=True)
class Tested:
    """All that came of the test patients.

    `releases`: site -> what it released; `absent`: site -> why it did not. `untrained`: site -> why
    it has no local-only model, or why that model did not travel. `operating`: model -> outcome ->
    common threshold and calibration; `by_default`: model -> outcomes whose threshold was not chosen
    on patients.
    """

    releases: Mapping[str, Release] = field(default_factory=dict)
    absent: Mapping[str, Missing] = field(default_factory=dict)
    untrained: Mapping[str, Missing] = field(default_factory=dict)
    operating: Mapping[str, Mapping[str, OperatingPoint]] = field(default_factory=dict)
    by_default: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def of(self, sites: Collection[str]) -> "Tested":
        """The same of some sites."""
        return replace(
            self,
            releases={site: r for site, r in self.releases.items() if site in sites},
            absent={site: why for site, why in self.absent.items() if site in sites},
        )

    def scores(self) -> dict[tuple[str, str, str], Scores]:
        """Scores by model, site and outcome; AUROCs of noisy histograms filled in."""
        return {
            (s.model, site, s.outcome): from_noisy(s)
            for site, release in self.releases.items()
            for s in release.scores
        }


def cells(tested: Tested, models: Sequence[str], experiment: Experiment) -> list[Cell]:
    """A cell for each model, site and outcome. A local-only model has cells at other sites only
    where the experiment wishes it to travel."""
    released, found = tested.scores(), []
    for model in models:
        kind, _, home = model.partition(":")
        for site in sorted({*tested.releases, *tested.absent}):
            if home and site != home and not experiment.evaluation.travel:
                continue
            for outcome in experiment.outcomes:
                scores = released.get((model, site, outcome))
                if scores is None:
                    missing = tested.absent.get(site)
                    if missing is None and kind == LOCAL:
                        missing = tested.untrained.get(home)
                    found.append(
                        Cell(model=model, site=site, outcome=outcome, missing=missing or "not run")
                    )
                    continue
                found.append(
                    cell_of(
                        model,
                        site,
                        scores,
                        tested.operating.get(model, {}).get(outcome),
                        experiment.evaluation.confidence,
                        clustered=experiment.unit == "image",
                    )
                )
    return found


def overall(tested: Tested, models: Sequence[str], experiment: Experiment) -> list[Overall]:
    """Figures of each family over all sites: base, local-only models at home, global, best."""
    released = tested.scores()
    found = []
    for family in dict.fromkeys(model.partition(":")[0] for model in models):
        for outcome in experiment.outcomes:
            of_sites = {}
            for site in sorted(tested.releases):
                name = f"{LOCAL}:{site}" if family == LOCAL else family
                scores = released.get((name, site, outcome))
                if scores is not None and scores.missing in (None, "one class"):
                    of_sites[site] = scores
            operating = tested.operating.get(family, {}).get(outcome)
            default = outcome in tested.by_default.get(family, ())
            added = _added_up(of_sites, operating, default=default)
            found.append(_overall(family, outcome, of_sites, added, experiment))
    return found


def _overall(
    family: str,
    outcome: str,
    of_sites: Mapping[str, Scores],
    added: "_AddedUp",
    experiment: Experiment,
) -> Overall:
    confidence, clustered = experiment.evaluation.confidence, experiment.unit == "image"
    level = None if clustered else confidence
    some = list(of_sites.values())
    histograms = {site: s.histogram for site, s in of_sites.items() if s.histogram}
    within, mean = within_site_auroc(some, confidence), macro_auroc(some, confidence)
    lowest = lowest_site(of_sites, confidence)
    effect = design_effect(some) if clustered else 1.0
    everyone = pooled_auroc(list(histograms.values()), confidence, effect)
    alone, share = site_only(some, confidence), within_share(some, confidence)
    elsewhere = new_site(some, confidence)
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
        pooled=everyone.value if everyone else None,
        pooled_ci=everyone.interval if everyone else None,
        bound=everyone.bound if everyone else None,
        design_effect=effect if clustered and everyone else None,
        site_only=alone.value if alone else None,
        site_only_ci=alone.interval if alone else None,
        within_share=share.value if share else None,
        within_share_ci=share.interval if share else None,
        new_site=NewSiteFigures(
            mean=elsewhere.mean,
            ci=elsewhere.interval,
            prediction=elsewhere.prediction,
            tau=elsewhere.tau,
            sites=sum(s.auroc is not None for s in some),
        )
        if elsewhere
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
        threshold=added.threshold,
        threshold_from=added.threshold_from,
        decisions=Decisions.of(sum_confusions(added.decided.values()), level)
        if added.decided
        else Decisions(),
        threshold_sites=list(added.decided),
        probabilities=added.probabilities,
        net_benefit=added.net_benefit,
    )


@dataclass(frozen=True)
class _AddedUp:
    """What adds up over sites: counts on either side of a threshold, squared errors, benefit."""

    threshold: float | None = None
    threshold_from: Literal["validation", "default", "folds"] | None = None
    decided: Mapping[str, ConfusionMatrix] = field(default_factory=dict)
    """Of the sites that gave the counts."""
    probabilities: ProbabilityFigures = field(default_factory=ProbabilityFigures)
    net_benefit: list[NetBenefitPoint] = field(default_factory=list)


def _added_up(
    of_sites: Mapping[str, Scores], operating: OperatingPoint | None, *, default: bool
) -> _AddedUp:
    """`operating`: common threshold and calibration. `default`: the threshold was not chosen on
    patients. A cross-validation needs neither: each fold has its own at each site."""
    of_folds = any(s.out_of_fold for s in of_sites.values())
    if operating is None and not of_folds:
        return _AddedUp()
    bases = {site: basis_of(s, operating) for site, s in of_sites.items()}
    there = {site: b for site, b in bases.items() if b.histogram is not None}
    if not there:
        return _AddedUp()
    calibration = CALIBRATED if of_folds else operating.calibration if operating else None
    by = "site" if of_folds else "common"
    exact = [
        b.probabilities.exact if b.probabilities and b.probabilities.by == by else None
        for b in there.values()
    ]
    histograms = [b.histogram for b in there.values() if b.histogram]
    return _AddedUp(
        threshold=float(GRID[operating.threshold]) if operating and not of_folds else None,
        threshold_from="folds" if of_folds else "default" if default else "validation",
        decided={site: b.decided for site, b in there.items() if b.decided},
        probabilities=_probabilities(histograms, exact, calibration),
        net_benefit=_benefit(histograms, calibration),
    )


def _probabilities(
    histograms: Sequence[Histogram],
    exact: Sequence[ProbabilityFigures | None],
    calibration: CalibrationLine | None,
) -> ProbabilityFigures:
    """Figures of probabilities by a calibration, over all sites: means of the exact ones of the
    sites that gave them, intercept and slope from histograms."""
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
    return points_of([average_benefit(sizes, at) for at in zip(*of_sites, strict=True)])
