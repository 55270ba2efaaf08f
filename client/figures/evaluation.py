"""From scores that stay to figures that may leave: what one split and a cross-validation share.

One split is a cross-validation of one fold: AUROC, comparisons and groups are the same in both.
What differs is what they count, the variance, and what stands beside the AUROC (`one_split`,
`cross_validation`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedrad.exchange.experiment import Groups, group_names
from fedrad.exchange.figures import (
    Missing,
    ModelComparison,
    ModelName,
    Release,
    Scores,
    SplitPart,
    Subgroup,
)
from fedrad.stats.exact import Units

from .disclosure import Disclosure
from .scored_units import Fold, ScoredUnits, folds_with_scores, pool_units


@dataclass(frozen=True)
class AurocEstimate:
    """Mean over folds of an AUROC, or of a difference of two, and its variance."""

    value: float
    variance: float


class SiteEvaluation(ABC):
    """The figures of one site in one experiment.

    Parameters
    ----------
    outcomes
        Of the experiment; their places are those in the scores.
    disclosure
        The site's rule.
    own
        Name of the site's local-only model.
    subgroups
        Column of the cohort -> its groups.
    """

    part: SplitPart = "test"
    compares: bool = True
    """Whether models and groups are compared at all."""

    def __init__(
        self,
        outcomes: Sequence[str],
        disclosure: Disclosure,
        own: ModelName,
        subgroups: Mapping[str, Groups] | None = None,
    ) -> None:
        self.outcomes = outcomes
        self.disclosure = disclosure
        self.own = own
        self.subgroups = subgroups or {}

    @abstractmethod
    def scores(
        self,
        model: ModelName,
        outcome: int,
        folds: Sequence[Fold],
        tested: Sequence[ScoredUnits],
        validation: Sequence[ScoredUnits],
    ) -> Scores:
        """One model on the outcome with this number; `folds`: those in which it was scored."""

    @abstractmethod
    def why_withheld(self, units: Units) -> Missing | None:
        """Why no exact figure of the units of all folds is given; None if they are."""

    @abstractmethod
    def counts(self, units: Units) -> tuple[int, int]:
        """With and without the outcome."""

    @abstractmethod
    def variance(self, folds: Sequence[Fold], weights: Sequence[float] | None) -> float:
        """Variance of the mean of the folds' AUROCs, weighted where weights are given."""

    def release(
        self,
        tested: Sequence[ScoredUnits],
        validation: Sequence[ScoredUnits],
        models: Sequence[ModelName],
        why_missing: Mapping[ModelName, Missing],
    ) -> Release:
        """All that leaves about a part of the units, once.

        Parameters
        ----------
        tested
            Units of the part, of each fold.
        validation
            The site's validation units of the folds, on which it chooses for itself.
        models
            Models asked for.
        why_missing
            Why a model asked for has no scores, where it has none.
        """
        scores = []
        for model in models:
            for k, outcome in enumerate(self.outcomes):
                folds = folds_with_scores(tested, [model], k)
                if folds:
                    scores.append(self.scores(model, k, folds, tested, validation))
                else:
                    missing = why_missing.get(model, "not run")
                    scores.append(Scores(model=model, outcome=outcome, missing=missing))
        noisy = [s.epsilon for s in scores if s.epsilon]
        return Release(
            part=self.part,
            scores=scores,
            comparisons=self.comparisons(tested, models) if self.compares else [],
            subgroups=self.subgroup_figures(tested) if self.compares else [],
            epsilon=sum(noisy) if noisy else None,
        )

    def is_other_sites_model(self, model: ModelName) -> bool:
        """Whether a model is another site's own. It gets its AUROC only: many histograms of the
        same patients would disclose more of them than one."""
        return model.startswith("local:") and model != self.own

    def auroc(self, folds: Sequence[Fold], *, by_pairs: bool = False) -> AurocEstimate | None:
        """Mean of the folds' AUROCs with its variance; None where no fold has both classes.

        `by_pairs`: folds weigh by their positive-negative pairs.
        """
        both = [fold for fold in folds if fold.units.both]
        if not both:
            return None
        values, weights = [fold.auroc for fold in both], None
        if by_pairs:
            sizes = [(int(f.units.positive.sum()), len(f.units.labels)) for f in both]
            weights = [positives * (total - positives) for positives, total in sizes]
        mean = float(np.average(values, weights=weights)) if len(both) > 1 else values[0]
        return AurocEstimate(min(1.0, mean), self.variance(both, weights))

    def comparisons(
        self, tested: Sequence[ScoredUnits], models: Sequence[ModelName]
    ) -> list[ModelComparison]:
        """The global model minus the site's own, and minus the base, where they were asked for."""
        if "global" not in models:
            return []
        return [
            self._comparison(other, outcome, folds_with_scores(tested, ["global", other], k))
            for other in (self.own, "base")
            if other in models
            for k, outcome in enumerate(self.outcomes)
        ]

    def _comparison(self, other: ModelName, outcome: str, pairs: Sequence[Fold]) -> ModelComparison:
        missing: Missing | None = self.why_withheld(pool_units(pairs)) if pairs else "not run"
        difference = self.auroc(pairs) if missing is None else None
        if missing is None and difference is None:
            missing = "one class"
        return ModelComparison(
            model="global",
            other=other,
            outcome=outcome,
            difference=difference.value if difference else None,
            variance=difference.variance if difference else None,
            missing=missing,
        )

    def subgroup_figures(self, tested: Sequence[ScoredUnits]) -> list[Subgroup]:
        """The global model in each group that the experiment names, where counts permit. Patients
        are compared within their fold, under one model; folds weigh by their pairs, for few of a
        group are in each."""
        scored = any("global" in part.logits for part in tested)
        if self.disclosure.epsilon or not scored:
            return []
        found = []
        for column, named in self.subgroups.items():
            for k, outcome in enumerate(self.outcomes):
                folds = folds_with_scores(tested, ["global"], k)
                number = len(group_names(named))
                shown = self._shown_groups(folds, column, number)
                for group in range(number):
                    inside = [f.of_group(column, group) for f in folds] if group in shown else []
                    found.append(self._subgroup(outcome, column, group, inside))
        return found

    def _subgroup(self, outcome: str, column: str, group: int, inside: Sequence[Fold]) -> Subgroup:
        """A group's figures from its units in each fold; without any why there are none."""
        auroc = self.auroc(inside, by_pairs=True)
        positives, negatives = self.counts(pool_units(inside)) if auroc else (0, 0)
        missing: Missing | None = None
        if not self.disclosure.subgroups:
            missing = "declined"
        elif not inside:
            missing = "below minimum"
        elif auroc is None:
            missing = "one class"
        return Subgroup(
            outcome=outcome,
            column=column,
            group=group,
            positives=positives,
            negatives=negatives,
            auroc=auroc.value if auroc else None,
            variance=auroc.variance if auroc else None,
            missing=missing,
        )

    def _shown_groups(self, folds: Sequence[Fold], column: str, number: int) -> set[int]:
        """Groups that have enough patients of each class, and leave enough outside them."""
        if not folds or not self.disclosure.subgroups:
            return set()
        pooled = pool_units(folds)
        if self.disclosure.why_withheld(pooled):
            return set()
        groups = np.concatenate([fold.groups[column] for fold in folds])
        return self.disclosure.groups(pooled, groups, number)
