"""`fedrad compare`: experiments on the same test patients side by side, from their summaries."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from fedrad.exchange.experiment import Experiment
from fedrad.server.results.parts import Cell, Overall, Part
from fedrad.server.results.summary import Summary, read_summary
from fedrad.stats.differences import holm
from fedrad.stats.intervals import Interval
from fedrad.stats.resampled import corrected_resampled, signed_rank, unpaired_interval

MODEL = "global"
"""The family that is compared."""


class Incomparable(Exception):
    """Experiments whose test patients are not the same; the text says what differs."""


class SiteFigure(Part):
    """One experiment at one site; `missing` says why there is no AUROC."""

    auroc: float | None = None
    ci: Interval | None = None
    missing: str | None = None


class Row(Part):
    """One experiment on one outcome: its global model on test patients.

    `folds_sd`: standard deviation over folds, no interval. `balanced_accuracy`, `f1`: over all
    sites, at the thresholds that validation patients chose.
    """

    name: str
    outcome: str
    within: float | None = None
    within_ci: Interval | None = None
    folds_sd: float | None = None
    balanced_accuracy: float | None = None
    f1: float | None = None
    sites: dict[str, SiteFigure] = Field(default_factory=dict)


class Contrast(Part):
    """Within-site AUROC of `first` minus that of `second`.

    `paired`: by fold, at the `sites` that tell of every fold of both; interval, `p` and `p_holm`
    (for all `tests` of the outcome together) are those of the corrected resampled t-test.
    `wilcoxon_p`: the paper's own test, over repeats where there are several, else over folds;
    `wilcoxon_least`: the smallest that so many pairs can give. Where nothing pairs them, the
    interval is from the two figures' own, wider than need be, and there is no p. `why`: why
    there is no difference at all.
    """

    outcome: str
    first: str
    second: str
    difference: float | None = None
    ci: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    tests: int = 0
    paired: bool = False
    sites: list[str] = Field(default_factory=list)
    folds: int = 0
    wilcoxon_p: float | None = None
    wilcoxon_least: float | None = None
    wilcoxon_over: Literal["repeats", "folds"] | None = None
    why: str | None = None

    @property
    def certain(self) -> bool:
        """Whether one may be called higher: only where a paired interval does not hold 0."""
        return self.paired and self.ci is not None and not self.ci[0] <= 0 <= self.ci[1]


class Comparison(Part):
    """All that `compare.json` holds."""

    format: Literal[1] = 1
    experiments: dict[str, dict[str, Any]]
    """Name in the tables -> settings."""
    differing: dict[str, dict[str, Any]]
    """Setting that is not the same in all -> name in the tables -> value."""
    confidence: float
    sites: list[str]
    rows: list[Row]
    contrasts: list[Contrast]


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by the names of their experiments; by their own names where these are not unique.
    Raises FileNotFoundError, pydantic's ValidationError, Incomparable."""
    names = [str(read_summary(folder).experiment.get("name")) for folder in folders]
    if len(set(names)) < len(names):
        names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names) or len(names) < 2:
        raise Incomparable("give the folders of two or more experiments, each once")
    return dict(zip(names, folders, strict=True))


def compare(summaries: Mapping[str, Summary]) -> Comparison:
    """The comparison of at least two experiments. Raises Incomparable, and pydantic's
    ValidationError for settings that are none of an experiment."""
    summaries = {name: _with_defaults(summary) for name, summary in summaries.items()}
    first = next(iter(summaries.values()))
    for name, summary in summaries.items():
        _check(next(iter(summaries)), first, name, summary)
    outcomes = [str(o) for o in first.experiment["outcomes"]]
    level = float(first.experiment["evaluation"]["confidence"])
    contrasts: list[Contrast] = []
    for outcome in outcomes:
        family = [
            _contrast(outcome, one, summaries[one], other, summaries[other], level)
            for one, other in combinations(summaries, 2)
        ]
        adjusted = holm([c.p for c in family])
        tests = sum(p is not None for p in adjusted)
        contrasts += [
            c.model_copy(update={"p_holm": p, "tests": tests})
            for c, p in zip(family, adjusted, strict=True)
        ]
    return Comparison(
        experiments={name: s.experiment for name, s in summaries.items()},
        differing=_differing({name: s.experiment for name, s in summaries.items()}),
        confidence=level,
        sites=sorted(first.sites),
        rows=[_row(name, s, outcome) for outcome in outcomes for name, s in summaries.items()],
        contrasts=contrasts,
    )


def _with_defaults(summary: Summary) -> Summary:
    """An earlier version's summary lacks the settings that were added since."""
    whole = Experiment.model_validate(summary.experiment).model_dump(mode="json")
    return summary.model_copy(update={"experiment": whole})


def _differing(experiments: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    flat = {name: dict(_flat(experiment)) for name, experiment in experiments.items()}
    keys = dict.fromkeys(key for settings in flat.values() for key in settings)
    found = {key: {name: of.get(key) for name, of in flat.items()} for key in keys if key != "name"}
    return {
        key: values for key, values in found.items() if len({str(v) for v in values.values()}) > 1
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check(one: str, first: Summary, other: str, summary: Summary) -> None:
    """Raise Incomparable where two experiments cannot have tested the same patients."""
    if summary.status != "completed":
        raise Incomparable(f"{other}: is {summary.status}, so it has no figures to compare")
    if summary.experiment["task"] == "progression":
        raise Incomparable(f"{other}: trains a generator, which has no test figures to compare")
    evaluation = summary.experiment["evaluation"]
    trainings = evaluation["folds"] * evaluation["repeats"]
    if trainings and evaluation["fold_number"] != trainings - 1:
        raise Incomparable(f"{other}: is one fold; give the folder of the whole cross-validation")
    for key in ("outcomes", "unit", "seed"):
        _same(key, one, first.experiment[key], other, summary.experiment[key])
    keys = ["folds", "repeats", "index_image", "held_out"]
    if not evaluation["folds"]:
        keys += ["test", "validation", "test_after"]
    for key in keys:
        mine, theirs = first.experiment["evaluation"][key], evaluation[key]
        _same(f"evaluation.{key}", one, mine, other, theirs)
    _same("sites", one, sorted(first.sites), other, sorted(summary.sites))
    counted = {(c.site, c.outcome): c for c in _cells(first)}
    for c in _cells(summary):
        mine_there = counted.get((c.site, c.outcome))
        if mine_there is None or None in (c.positives, mine_there.positives):
            continue
        _same(
            f"patients tested at {c.site} with and without {c.outcome}",
            one,
            [mine_there.positives, mine_there.negatives],
            other,
            [c.positives, c.negatives],
        )


def _same(key: str, one: str, mine: object, other: str, theirs: object) -> None:
    if mine != theirs:
        raise Incomparable(
            f"{key}: {mine} in {one}, {theirs} in {other}: their test patients are not the same"
        )


def _cells(summary: Summary) -> list[Cell]:
    return [c for c in summary.cells if c.model == MODEL]


def _overall(summary: Summary, outcome: str) -> Overall | None:
    return next((o for o in summary.overall if (o.model, o.outcome) == (MODEL, outcome)), None)


def _row(name: str, summary: Summary, outcome: str) -> Row:
    sites = {
        c.site: SiteFigure(auroc=c.auroc, ci=c.ci, missing=c.missing)
        for c in _cells(summary)
        if c.outcome == outcome
    }
    o = _overall(summary, outcome)
    if o is None:
        return Row(name=name, outcome=outcome, sites=sites)
    balanced = f1 = None
    at, sensitivity = o.decisions, o.decisions.sensitivity
    if sensitivity is not None and at.specificity is not None:
        balanced = (sensitivity + at.specificity) / 2
    if sensitivity is not None and at.ppv is not None:
        both = sensitivity + at.ppv
        f1 = 2 * sensitivity * at.ppv / both if both else 0.0
    return Row(
        name=name,
        outcome=outcome,
        within=o.within,
        within_ci=o.within_ci,
        folds_sd=o.folds_sd,
        balanced_accuracy=balanced,
        f1=f1,
        sites=sites,
    )


def _contrast(
    outcome: str, one: str, first: Summary, other: str, second: Summary, confidence: float
) -> Contrast:
    empty = Contrast(outcome=outcome, first=one, second=other)
    evaluation = first.experiment["evaluation"]
    apart, sites = _by_fold(first, second, outcome)
    share = max(_test_to_train(s.experiment["evaluation"]) for s in (first, second))
    if (d := corrected_resampled(apart, share, confidence)) is not None:
        repeats, folds = evaluation["repeats"], evaluation["folds"]
        runs = np.array(apart).reshape(repeats, folds).mean(axis=1).tolist()
        rank = signed_rank(runs if repeats > 1 else apart)
        return empty.model_copy(
            update={
                "difference": d.value,
                "ci": d.interval,
                "p": d.p,
                "paired": True,
                "sites": sites,
                "folds": len(apart),
                "wilcoxon_p": rank.p if rank else None,
                "wilcoxon_least": rank.least if rank else None,
                "wilcoxon_over": ("repeats" if repeats > 1 else "folds") if rank else None,
            }
        )
    mine, theirs = _overall(first, outcome), _overall(second, outcome)
    told = [
        sorted(c.site for c in _cells(s) if c.outcome == outcome and c.auroc is not None)
        for s in (first, second)
    ]
    if not mine or not theirs or mine.within is None or theirs.within is None:
        return empty.model_copy(update={"why": "one of them has no within-site AUROC"})
    if told[0] != told[1]:
        return empty.model_copy(update={"why": "their figures are of different sites"})
    interval = None
    if mine.within_ci and theirs.within_ci:
        interval = unpaired_interval(mine.within, mine.within_ci, theirs.within, theirs.within_ci)
    found = {"difference": mine.within - theirs.within, "ci": interval, "sites": told[0]}
    return empty.model_copy(update=found)


def _by_fold(first: Summary, second: Summary, outcome: str) -> tuple[list[float], list[str]]:
    """Difference of the within-site AUROC in each fold, at the sites that tell of every fold in
    both; and these sites."""
    evaluation = first.experiment["evaluation"]
    trainings = evaluation["folds"] * evaluation["repeats"]
    mine, theirs = (
        {
            c.site: c
            for c in _cells(s)
            if c.outcome == outcome and len(c.folds) == trainings and None not in c.folds
        }
        for s in (first, second)
    )
    away = evaluation["held_out"]
    sites = sorted(site for site in mine.keys() & theirs.keys() if site not in away)
    if not sites or not trainings:
        return [], []
    weights = np.array([(mine[s].positives or 0) * (mine[s].negatives or 0) for s in sites], float)
    apart = np.array([mine[s].folds for s in sites], float) - np.array(
        [theirs[s].folds for s in sites], float
    )
    return (weights @ apart / weights.sum()).tolist(), sites


def _test_to_train(evaluation: Mapping[str, Any]) -> float:
    """Patients tested over patients trained on, in each fold."""
    if not evaluation["folds"]:
        return 0.0
    tested = 1 / evaluation["folds"]
    return float(tested / ((1 - tested) * (1 - evaluation["validation"])))
