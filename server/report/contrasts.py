"""Differences of two experiments, paired by fold if both have the same folds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field

from fedrad.server.results.parts import Cell, Overall, SummaryPart
from fedrad.server.results.summary import Summary
from fedrad.stats.differences import Difference, holm
from fedrad.stats.intervals import Interval
from fedrad.stats.resampled import (
    SignedRank,
    corrected_resampled,
    signed_rank,
    unpaired_interval,
)
from fedrad.stats.weighted import pair_weighted_mean

MODEL = "global"
"""The model family that is compared."""


class Contrast(SummaryPart):
    """Within-site AUROC of `first` minus that of `second`.

    Attributes
    ----------
    ci, p
        Of the corrected resampled t-test if the two are paired. Otherwise the interval is that of
        independent figures, which is wider than necessary, and there is no p.
    p_holm
        p corrected for all `tests` of the outcome.
    paired
        Whether the two are paired by fold, at `sites`.
    sites
        Sites that released the AUROC of every fold in both experiments.
    folds
        Number of paired folds.
    wilcoxon_p
        Wilcoxon's signed-rank test, as in the published ablation.
    wilcoxon_least
        The smallest p of that test for this number of pairs.
    wilcoxon_over
        Pairs of that test: repeats if there are several, else folds.
    why
        Why there is no difference.
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
        """Whether one is higher: the interval is paired and excludes 0."""
        return self.paired and self.ci is not None and not self.ci[0] <= 0 <= self.ci[1]


def global_cells(summary: Summary) -> list[Cell]:
    """Cells of the global model."""
    return [c for c in summary.cells if c.model == MODEL]


def global_overall(summary: Summary, outcome: str) -> Overall | None:
    """The global model on an outcome over all sites."""
    return next((o for o in summary.overall if (o.model, o.outcome) == (MODEL, outcome)), None)


@dataclass(frozen=True)
class FoldPairing:
    """Folds in which both experiments tested the same patients, with Wilcoxon's test."""

    folds: int
    rank: SignedRank | None
    over: Literal["repeats", "folds"]


@dataclass(frozen=True)
class ExperimentDifference:
    """Difference of two experiments, or `why` there is none. `paired` is None if it is from two
    independent figures."""

    difference: Difference | None = None
    sites: list[str] = field(default_factory=list)
    paired: FoldPairing | None = None
    why: str | None = None


def with_holm(
    outcome: str, family: Mapping[tuple[str, str], ExperimentDifference]
) -> list[Contrast]:
    """The contrasts of an outcome, with p corrected for all of them (Holm)."""
    adjusted = holm([c.difference.p if c.difference else None for c in family.values()])
    tests = sum(p is not None for p in adjusted)
    contrasts = []
    for ((first, second), c), p in zip(family.items(), adjusted, strict=True):
        d, pairs = c.difference, c.paired
        rank = pairs.rank if pairs else None
        contrasts.append(
            Contrast(
                outcome=outcome,
                first=first,
                second=second,
                difference=d.value if d else None,
                ci=d.interval if d else None,
                p=d.p if d else None,
                p_holm=p,
                tests=tests,
                paired=pairs is not None,
                sites=c.sites,
                folds=pairs.folds if pairs else 0,
                wilcoxon_p=rank.p if rank else None,
                wilcoxon_least=rank.least if rank else None,
                wilcoxon_over=pairs.over if pairs and rank else None,
                why=c.why,
            )
        )
    return contrasts


def difference_of(
    outcome: str, first: Summary, second: Summary, confidence: float
) -> ExperimentDifference:
    """Within-site AUROC of the first experiment minus that of the second.

    Parameters
    ----------
    outcome
        The outcome.
    first, second
        Summaries of the experiments.
    confidence
        Level of the interval, in (0, 1).

    Returns
    -------
    ExperimentDifference
        Paired by fold if both experiments have the same folds; else of independent figures.
    """
    evaluation = first.experiment["evaluation"]
    apart, sites = _by_fold(first, second, outcome)
    share = max(_test_to_train(s.experiment["evaluation"]) for s in (first, second))
    if (d := corrected_resampled(apart, share, confidence)) is not None:
        repeats, folds = evaluation["repeats"], evaluation["folds"]
        runs = np.array(apart).reshape(repeats, folds).mean(axis=1).tolist()
        rank = signed_rank(runs if repeats > 1 else apart)
        over: Literal["repeats", "folds"] = "repeats" if repeats > 1 else "folds"
        return ExperimentDifference(d, sites, FoldPairing(len(apart), rank, over))
    mine, theirs = global_overall(first, outcome), global_overall(second, outcome)
    sites, others = (
        sorted(c.site for c in global_cells(s) if c.outcome == outcome and c.auroc is not None)
        for s in (first, second)
    )
    if not mine or not theirs or mine.within is None or theirs.within is None:
        return ExperimentDifference(why="one of them has no within-site AUROC")
    if sites != others:
        return ExperimentDifference(why="their figures are of different sites")
    interval = None
    if mine.within_ci and theirs.within_ci:
        interval = unpaired_interval(mine.within, mine.within_ci, theirs.within, theirs.within_ci)
    return ExperimentDifference(Difference(mine.within - theirs.within, interval, None), sites)


def _by_fold(first: Summary, second: Summary, outcome: str) -> tuple[list[float], list[str]]:
    """Difference of the within-site AUROC in each fold, and the sites behind it: those that
    released the AUROC of every fold in both experiments."""
    evaluation = first.experiment["evaluation"]
    trainings = evaluation["folds"] * evaluation["repeats"]
    mine, theirs = (
        {
            c.site: c
            for c in global_cells(s)
            if c.outcome == outcome and len(c.folds) == trainings and None not in c.folds
        }
        for s in (first, second)
    )
    held_out = evaluation["held_out"]
    sites = sorted(site for site in mine.keys() & theirs.keys() if site not in held_out)
    if not sites or not trainings:
        return [], []
    apart = np.array([mine[s].folds for s in sites], float) - np.array(
        [theirs[s].folds for s in sites], float
    )
    positives, negatives = (
        [mine[s].positives or 0 for s in sites],
        [mine[s].negatives or 0 for s in sites],
    )
    return pair_weighted_mean(apart, positives, negatives).tolist(), sites


def _test_to_train(evaluation: Mapping[str, Any]) -> float:
    """Ratio of test patients to training patients in a fold."""
    if not evaluation["folds"]:
        return 0.0
    tested = 1 / evaluation["folds"]
    return float(tested / ((1 - tested) * (1 - evaluation["validation"])))
