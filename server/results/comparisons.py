"""Comparisons of models on the same patients, and of groups of patients under one model."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from fedrad.exchange.experiment import Experiment, group_names
from fedrad.exchange.figures import Missing, Subgroup
from fedrad.exchange.model_names import family_of
from fedrad.stats.auroc import site_estimate, within_site_auroc
from fedrad.stats.differences import Difference, difference, holm, weighted_difference

from .overall import ReleasedFigures
from .parts import ComparisonFigures, Gap, SubgroupFigures


@dataclass(frozen=True)
class _ModelDifference:
    """Difference of two models on one outcome, at a site or over all sites (`site` is None)."""

    model: str
    other: str
    outcome: str
    site: str | None = None
    difference: Difference | None = None
    missing: Missing | None = None


def comparisons(tested: ReleasedFigures, experiment: Experiment) -> list[ComparisonFigures]:
    """Differences of AUROC: global minus local-only model, and global minus base model.

    Parameters
    ----------
    tested
        Released figures of the sites to include.
    experiment
        The experiment.

    Returns
    -------
    list[ComparisonFigures]
        Differences over all sites, then those at single sites. Each p is corrected within its
        group (Holm).
    """
    confidence = experiment.evaluation.confidence
    at_sites: list[_ModelDifference] = []
    together: dict[tuple[str, str, str], list[tuple[float, float, float]]] = defaultdict(list)
    counts = {key: s.positives * s.negatives for key, s in tested.scores().items()}
    for site, release in sorted(tested.releases.items()):
        for c in release.comparisons:
            result = None
            if c.difference is not None and c.variance is not None:
                result = difference(c.difference, c.variance, confidence)
                weight = counts.get((c.model, site, c.outcome), 0)
                family = (c.model, family_of(c.other), c.outcome)
                together[family].append((c.difference, c.variance, weight))
            at_sites.append(_ModelDifference(c.model, c.other, c.outcome, site, result, c.missing))
    over_all = []
    for (model, other, outcome), parts in together.items():
        values, variances, weights = zip(*parts, strict=True)
        if (w := weighted_difference(values, variances, weights, confidence)) is not None:
            over_all.append(_ModelDifference(model, other, outcome, difference=w))
    return [*_with_holm(over_all), *_with_holm(at_sites)]


def _with_holm(family: Sequence[_ModelDifference]) -> list[ComparisonFigures]:
    """The figures of a family of tests, with p corrected for the whole family."""
    adjusted = holm([c.difference.p if c.difference else None for c in family])
    tests = sum(p is not None for p in adjusted)
    return [
        ComparisonFigures(
            model=c.model,
            other=c.other,
            outcome=c.outcome,
            site=c.site,
            difference=c.difference.value if c.difference else None,
            ci=c.difference.interval if c.difference else None,
            p=c.difference.p if c.difference else None,
            p_holm=p,
            tests=tests,
            missing=c.missing,
        )
        for c, p in zip(family, adjusted, strict=True)
    ]


def subgroups(
    tested: ReleasedFigures, experiment: Experiment
) -> tuple[list[SubgroupFigures], list[Gap]]:
    """Figures of the global model in the experiment's subgroups, and the largest gap per column."""
    confidence = experiment.evaluation.confidence
    figures: list[SubgroupFigures] = []
    gaps: list[Gap] = []
    for column, named in experiment.evaluation.subgroups.items():
        names = group_names(named)
        for outcome in experiment.outcomes:
            by_group: list[dict[str, Subgroup]] = [{} for _ in names]
            for site, release in sorted(tested.releases.items()):
                for s in release.subgroups:
                    if (s.column, s.outcome) != (column, outcome) or s.group >= len(names):
                        continue
                    figures.append(_subgroup(s, names[s.group], site, confidence))
                    if s.auroc is not None:
                        by_group[s.group][site] = s
            for name, of_sites in zip(names, by_group, strict=True):
                if (w := within_site_auroc(list(of_sites.values()), confidence)) is not None:
                    figures.append(
                        SubgroupFigures(
                            outcome=outcome,
                            column=column,
                            group=name,
                            auroc=w.value,
                            ci=w.interval,
                            positives=sum(s.positives for s in of_sites.values()),
                            negatives=sum(s.negatives for s in of_sites.values()),
                        )
                    )
            if (gap := _largest_gap(outcome, column, names, by_group, confidence)) is not None:
                gaps.append(gap)
    return figures, gaps


def _subgroup(s: Subgroup, name: str, site: str, confidence: float) -> SubgroupFigures:
    estimate = site_estimate(s, confidence)
    return SubgroupFigures(
        outcome=s.outcome,
        column=s.column,
        group=name,
        site=site,
        auroc=estimate.value if estimate else None,
        ci=estimate.interval if estimate else None,
        positives=s.positives if estimate else None,
        negatives=s.negatives if estimate else None,
        missing=s.missing,
    )


def _largest_gap(
    outcome: str,
    column: str,
    names: Sequence[str],
    by_group: Sequence[Mapping[str, Subgroup]],
    confidence: float,
) -> Gap | None:
    """The largest difference of within-site AUROC between two groups of a column.

    Two groups are compared at the sites with figures of both. The weight of a site is
    1 / (1/pairs + 1/pairs), with the pairs of the first and of the second group.

    Parameters
    ----------
    outcome, column
        Outcome, and column of the cohort table.
    names
        Names of the groups.
    by_group
        For each group: site -> its figures.
    confidence
        Level for one comparison, in (0, 1).
    """
    tests = list(combinations(range(len(names)), 2))
    strict = 1 - (1 - confidence) / max(1, len(tests))
    gaps: list[Gap] = []
    for a, b in tests:
        one, other = by_group[a], by_group[b]
        both = [(one[s], other[s]) for s in one if s in other]
        if not both:
            continue
        weights = [
            1 / (1 / (x.positives * x.negatives) + 1 / (y.positives * y.negatives)) for x, y in both
        ]
        d = weighted_difference(
            [(x.auroc or 0) - (y.auroc or 0) for x, y in both],
            [(x.variance or 0) + (y.variance or 0) for x, y in both],
            weights,
            strict,
        )
        if d is None:
            continue
        high, low, ci = (
            (a, b, d.interval)
            if d.value >= 0
            else (b, a, d.interval and (-d.interval[1], -d.interval[0]))
        )
        gaps.append(
            Gap(
                outcome=outcome,
                column=column,
                highest=names[high],
                lowest=names[low],
                gap=abs(d.value),
                ci=ci,
            )
        )
    return max(gaps, key=lambda g: g.gap) if gaps else None
