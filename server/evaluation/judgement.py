"""Whether a release can be: of what was asked for, each figure once, and no contradiction."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

from fedrad.exchange.experiment import Experiment, group_names
from fedrad.exchange.figures import ModelName, Release, Scores, SplitPart
from fedrad.exchange.messages import Readiness
from fedrad.exchange.model_names import LOCAL, local_of
from fedrad.server.results.choices import choose
from fedrad.server.results.comparisons import comparisons, subgroups
from fedrad.server.results.contradictions import contradiction
from fedrad.server.results.overall import ReleasedFigures, cells, overall


def fault_of_release(
    release: Release,
    site: str,
    readiness: Readiness | None,
    part: SplitPart,
    models: Sequence[ModelName],
    experiment: Experiment,
) -> str:
    """Why a release is refused; empty if it is sound.

    Its figures are also computed with, alone: an error in that is this site's failure, and is not
    to end the run when the summary of all sites is written.

    Parameters
    ----------
    release
        What the site released.
    site
        The site.
    readiness
        What it declared at the start; None if it is not known.
    part
        Part of the patients that was asked for.
    models
        Models that were asked for.
    experiment
        The experiment.
    """
    named = [local_of(site) if model == LOCAL else model for model in models]
    if release.part != part:
        return "figures of another part"
    why = _not_asked(release, named, experiment) or "; ".join(
        text for s in release.scores if (text := contradiction(s))
    )
    if why or (why := _other_counts(release, readiness, experiment)):
        return why
    _compute_with(release, site, named, experiment)
    return ""


def _not_asked(release: Release, models: Collection[str], experiment: Experiment) -> str:
    """What was not asked for, or is there twice; in words, because names may be made up."""
    outcomes = set(experiment.outcomes)
    groups = {column: len(group_names(g)) for column, g in experiment.evaluation.subgroups.items()}
    scored = Counter((s.model, s.outcome) for s in release.scores)
    compared = Counter((c.model, c.other, c.outcome) for c in release.comparisons)
    grouped = Counter((s.outcome, s.column, s.group) for s in release.subgroups)
    if any(model not in models or outcome not in outcomes for model, outcome in scored):
        return "figures of a model or an outcome that was not asked for"
    if any({m, other} - set(models) or outcome not in outcomes for m, other, outcome in compared):
        return "a comparison that was not asked for"
    if any(o not in outcomes or number >= groups.get(column, 0) for o, column, number in grouped):
        return "figures of a group that was not asked for"
    if any(number > 1 for of in (scored, compared, grouped) for number in of.values()):
        return "the same figure twice"
    return ""


def _other_counts(release: Release, readiness: Readiness | None, experiment: Experiment) -> str:
    """Counts that contradict each other, or those that the site declared.

    There may be fewer patients than declared, because a patient can withdraw in between, and never
    more. In a cross-validation figures are of all folds, so their counts are others.
    """
    if experiment.evaluation.folds:
        return ""
    declared = readiness.units.get(release.part, {}) if readiness else {}
    for outcome in experiment.outcomes:
        exact = [s for s in release.scores if s.outcome == outcome and _has_exact_counts(s)]
        if any(_counts(a) != _counts(b) for a, b in pairwise(exact)):
            return f"{outcome}: models were scored on different numbers of patients"
        at_start = declared.get(outcome)
        if not exact or at_start is None:
            continue
        limits = (at_start.positives, at_start.negatives)
        for released, limit in zip(_counts(exact[0]), limits, strict=True):
            if limit is not None and released > limit:
                return f"{outcome}: more patients than the site declared at the start"
    return ""


def _has_exact_counts(scores: Scores) -> bool:
    """A model that the site does not have comes without counts."""
    return scores.epsilon is None and sum(_counts(scores)) > 0


def _counts(scores: Scores) -> tuple[int, int]:
    return scores.positives, scores.negatives


def _compute_with(
    release: Release, site: str, models: Sequence[str], experiment: Experiment
) -> None:
    """Compute from this release alone what the summary computes from all. May raise anything."""
    if release.part == "validation":
        choose({site: release}, models, experiment.outcomes)
        return
    alone = ReleasedFigures({site: release})
    cells(alone, models, experiment)
    overall(alone, models, experiment)
    comparisons(alone, experiment)
    subgroups(alone, experiment)
