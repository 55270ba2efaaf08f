"""Comparison of experiments on the same test patients, for `fedrad compare`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fedrad.exchange.experiment import Experiment
from fedrad.models.tasks import task_of
from fedrad.server.results.parts import SummaryPart
from fedrad.server.results.summary import Summary, read_summary
from fedrad.stats.intervals import Interval
from fedrad.system.errors import UserError

from .contrasts import Contrast, difference_of, global_cells, global_overall, with_holm


class Incomparable(UserError):
    """Experiments whose test patients are not the same. The text says what differs."""


class SiteAuroc(SummaryPart):
    """AUROC of one experiment at one site. `missing`: why there is none."""

    auroc: float | None = None
    ci: Interval | None = None
    missing: str | None = None


class ComparisonRow(SummaryPart):
    """Figures of one experiment on one outcome: its global model on test patients.

    Attributes
    ----------
    folds_sd
        Standard deviation of the within-site AUROC over folds, which is no interval.
    balanced_accuracy, f1
        Over all sites, at the thresholds that validation patients chose.
    """

    name: str
    outcome: str
    within: float | None = None
    within_ci: Interval | None = None
    folds_sd: float | None = None
    balanced_accuracy: float | None = None
    f1: float | None = None
    sites: dict[str, SiteAuroc] = Field(default_factory=dict)


class ExperimentComparison(SummaryPart):
    """The content of `compare.json`."""

    format: Literal[1] = 1
    experiments: dict[str, dict[str, Any]]
    """Name in the tables -> settings."""
    differing: dict[str, dict[str, Any]]
    """Setting that differs between experiments -> name in the tables -> value."""
    confidence: float
    sites: list[str]
    rows: list[ComparisonRow]
    contrasts: list[Contrast]


def folders_by_name(folders: Sequence[Path]) -> dict[str, Path]:
    """Give each folder a unique name: of its experiment if these are unique, else its own.

    Parameters
    ----------
    folders
        Folders of experiments.

    Returns
    -------
    dict[str, Path]
        Name in the tables -> folder.

    Raises
    ------
    FileNotFoundError
        If a folder has no summary.
    pydantic.ValidationError
        If a file is not a summary.
    Incomparable
        If there are fewer than two folders, or one is given twice.
    """
    names = [str(read_summary(folder).experiment.get("name")) for folder in folders]
    if len(set(names)) < len(names):
        names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names) or len(names) < 2:
        raise Incomparable("give the folders of two or more experiments, each once")
    return dict(zip(names, folders, strict=True))


def compare(summaries: Mapping[str, Summary]) -> ExperimentComparison:
    """Compare at least two experiments.

    Parameters
    ----------
    summaries
        Name in the tables -> summary.

    Raises
    ------
    Incomparable
        If the experiments did not test the same patients.
    pydantic.ValidationError
        If the settings in a summary are invalid.
    """
    summaries = {name: _with_defaults(summary) for name, summary in summaries.items()}
    first = next(iter(summaries.values()))
    for name, summary in summaries.items():
        _check(next(iter(summaries)), first, name, summary)
    outcomes = [str(o) for o in first.experiment["outcomes"]]
    level = float(first.experiment["evaluation"]["confidence"])
    contrasts: list[Contrast] = []
    for outcome in outcomes:
        family = {
            (one, other): difference_of(outcome, summaries[one], summaries[other], level)
            for one, other in combinations(summaries, 2)
        }
        contrasts += with_holm(outcome, family)
    return ExperimentComparison(
        experiments={name: s.experiment for name, s in summaries.items()},
        differing=_differing({name: s.experiment for name, s in summaries.items()}),
        confidence=level,
        sites=sorted(first.sites),
        rows=[_row(name, s, outcome) for outcome in outcomes for name, s in summaries.items()],
        contrasts=contrasts,
    )


def _with_defaults(summary: Summary) -> Summary:
    """Add the defaults of settings that did not exist when the summary was written."""
    whole = Experiment.model_validate(summary.experiment).model_dump(mode="json")
    return summary.model_copy(update={"experiment": whole})


def _differing(experiments: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    flat = {name: dict(_flat(experiment)) for name, experiment in experiments.items()}
    keys = dict.fromkeys(key for settings in flat.values() for key in settings)
    values = {
        key: {name: settings.get(key) for name, settings in flat.items()}
        for key in keys
        if key != "name"
    }
    return {
        key: by_name
        for key, by_name in values.items()
        if len({str(v) for v in by_name.values()}) > 1
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check(one: str, first: Summary, other: str, summary: Summary) -> None:
    """Raise Incomparable if two experiments cannot have tested the same patients."""
    if summary.status != "completed":
        raise Incomparable(f"{other}: is {summary.status}, so it has no figures to compare")
    task = task_of(summary.experiment)
    if not task.tests_patients:
        raise Incomparable(
            f"{other}: trains a {task.product}, which has no test figures to compare"
        )
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
    counted = {(c.site, c.outcome): c for c in global_cells(first)}
    for c in global_cells(summary):
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


def _row(name: str, summary: Summary, outcome: str) -> ComparisonRow:
    sites = {
        c.site: SiteAuroc(auroc=c.auroc, ci=c.ci, missing=c.missing)
        for c in global_cells(summary)
        if c.outcome == outcome
    }
    o = global_overall(summary, outcome)
    if o is None:
        return ComparisonRow(name=name, outcome=outcome, sites=sites)
    balanced = f1 = None
    at, sensitivity = o.decisions, o.decisions.sensitivity
    if sensitivity is not None and at.specificity is not None:
        balanced = (sensitivity + at.specificity) / 2
    if sensitivity is not None and at.ppv is not None:
        both = sensitivity + at.ppv
        f1 = 2 * sensitivity * at.ppv / both if both else 0.0
    return ComparisonRow(
        name=name,
        outcome=outcome,
        within=o.within,
        within_ci=o.within_ci,
        folds_sd=o.folds_sd,
        balanced_accuracy=balanced,
        f1=f1,
        sites=sites,
    )
