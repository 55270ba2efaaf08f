"""From what sites released to the figures of the summary: cells, and figures over all sites."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import Line, Missing, Operating, Probabilities, Release, Scores
from fedrad.exchange.histogram import GRID, Histogram
from fedrad.stats.auroc import (
    design_effect,
    folds_sd,
    macro,
    pooled,
    table,
    within_site,
    worst,
)
from fedrad.stats.calibration import intercept_and_slope
from fedrad.stats.decisions import Confusion, average_benefit, confusion, net_benefit
from fedrad.stats.new_site import new_site
from fedrad.stats.noise import from_noisy
from fedrad.stats.prevalence import site_only, within_share

from .cells import BENEFIT_THRESHOLDS, CALIBRATED, cell_of, confusion_of, points_of, shares
from .parts import Cell, NewSiteFigures, Overall, Pair

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
    operating: Mapping[str, Mapping[str, Operating]] = field(default_factory=dict)
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
            figures = _overall(family, outcome, of_sites, operating, experiment)
            if figures.threshold is not None:
                default = outcome in tested.by_default.get(family, ())
                origin = "default" if default else "validation"
                figures = figures.model_copy(update={"threshold_from": origin})
            found.append(figures)
    return found


def _overall(
    family: str,
    outcome: str,
    of_sites: Mapping[str, Scores],
    operating: Operating | None,
    experiment: Experiment,
) -> Overall:
    confidence, clustered = experiment.evaluation.confidence, experiment.unit == "image"
    some = list(of_sites.values())
    histograms = {site: s.histogram for site, s in of_sites.items() if s.histogram}
    within, mean = within_site(some, confidence), macro(some, confidence)
    lowest = worst(of_sites, confidence)
    effect = design_effect(some) if clustered else 1.0
    everyone = pooled(list(histograms.values()), confidence, effect)
    alone, share = site_only(some, confidence), within_share(some, confidence)
    elsewhere = new_site(some, confidence)
    names = list(histograms)
    found = Overall(
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
            for i, row in zip(names, table(list(histograms.values())), strict=True)
            for j, entry in zip(names, row, strict=True)
            if entry is not None
        ],
        positives=sum(s.positives for s in some),
        negatives=sum(s.negatives for s in some),
        folds_sd=folds_sd(some),
    )
    if any(s.out_of_fold for s in some):
        return found.model_copy(update=_out_of_folds(of_sites, experiment))
    if operating is None or not histograms:
        return found
    speaking = {site: s for site, s in of_sites.items() if s.histogram}
    return found.model_copy(update=_at_operating_point(speaking, operating, experiment))


def _at_operating_point(
    of_sites: Mapping[str, Scores], operating: Operating, experiment: Experiment
) -> dict[str, object]:
    """What adds up over sites: counts on either side of the threshold, squared errors, benefit."""
    confidence = None if experiment.unit == "image" else experiment.evaluation.confidence
    decided: dict[str, Confusion] = {}
    for site, s in of_sites.items():
        assert s.histogram is not None
        if (c := confusion(s.histogram, operating.threshold)) is not None:
            decided[site] = c
    told = [(s.histogram, _common(s.probabilities)) for s in of_sites.values() if s.histogram]
    return (
        {"threshold": float(GRID[operating.threshold]), "threshold_sites": list(decided)}
        | (shares(sum(decided.values(), Confusion(0, 0, 0, 0)), confidence) if decided else {})
        | (_of_probabilities(told, operating.calibration) if operating.calibration else {})
    )


def _common(p: Probabilities | None) -> Probabilities | None:
    return p if p is not None and p.by == "common" else None


def _out_of_folds(of_sites: Mapping[str, Scores], experiment: Experiment) -> dict[str, object]:
    """What adds up over sites of a cross-validation: what each fold decided at its own threshold,
    squared errors, benefit."""
    confidence = None if experiment.unit == "image" else experiment.evaluation.confidence
    there = {site: s.out_of_fold for site, s in of_sites.items() if s.out_of_fold}
    decided = {site: confusion_of(o.decided) for site, o in there.items() if o.decided}
    return (
        {"threshold_from": "folds", "threshold_sites": list(decided)}
        | (shares(sum(decided.values(), Confusion(0, 0, 0, 0)), confidence) if decided else {})
        | _of_probabilities([(o.histogram, o.probabilities) for o in there.values()], CALIBRATED)
    )


def _of_probabilities(
    of_sites: Sequence[tuple[Histogram, Probabilities | None]], calibration: Line
) -> dict[str, object]:
    """Figures of probabilities by a calibration, over all sites; Brier scores of those who say what
    theirs is."""
    histograms = [h for h, _ in of_sites]
    sizes = [h.total_positives + h.total_negatives for h in histograms]
    benefit = [net_benefit(h, calibration, BENEFIT_THRESHOLDS) for h in histograms]
    exact = [(n, p.brier) for n, (_, p) in zip(sizes, of_sites, strict=True) if p is not None]
    counted = sum(n for n, _ in exact)
    shift, slope = intercept_and_slope(histograms, calibration)
    return {
        "brier": sum(n * b for n, b in exact) / counted if counted else None,
        "calibration_intercept": shift,
        "calibration_slope": slope,
        "net_benefit": points_of([average_benefit(sizes, at) for at in zip(*benefit, strict=True)]),
    }
