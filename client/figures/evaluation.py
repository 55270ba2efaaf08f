"""From scores, which stay at the site, to figures that may leave: the common part of a single split
and of a cross-validation.

A single split is a cross-validation of one fold: AUROC, comparisons and subgroups are computed in
the same way. `one_split` and `cross_validation` differ in what they count, in the variance, and in
the figures that they release with the AUROC.
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
from fedrad.exchange.model_names import home_of
from fedrad.stats.exact import Units

from .disclosure import Disclosure
from .divided import Divided
from .rounding import rounded
from .scored_units import Fold, ScoredUnits, folds_with_scores, pool_units


@dataclass(frozen=True)
class AurocEstimate:
    """Mean over folds of an AUROC, or of a difference of two AUROCs, and its variance."""

    value: float
    variance: float


class SiteEvaluation(ABC):
    """The figures of one site in one experiment.

    Parameters
    ----------
    outcomes
        Outcomes of the experiment, in the order of the columns of labels and scores.
    disclosure
        The disclosure rule of the site.
    own
        Name of the site's local-only model.
    subgroups
        Column of the cohort table -> its groups.
    """

    part: SplitPart = "test"
    compares: bool = True
    """Whether comparisons of models and figures of subgroups are released."""

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
        self.divided = [Divided(disclosure) for _ in outcomes]

    @abstractmethod
    def scores(
        self,
        model: ModelName,
        outcome: int,
        folds: Sequence[Fold],
        tested: Sequence[ScoredUnits],
        validation: Sequence[ScoredUnits],
    ) -> Scores:
        """Figures of one model for one outcome.

        Parameters
        ----------
        model
            The model.
        outcome
            Number of the outcome.
        folds
            Folds in which the model was scored on the outcome; at least one.
        tested, validation
            Test and validation units of all folds.
        """

    @abstractmethod
    def why_withheld(self, units: Units) -> Missing | None:
        """Why no exact figure of the units of all folds is released; None if it is."""

    @abstractmethod
    def counts(self, units: Units) -> tuple[int, int]:
        """Numbers with and without the outcome."""

    @abstractmethod
    def variance(self, folds: Sequence[Fold], weights: Sequence[float] | None) -> float:
        """Variance of the mean of the folds' AUROCs; `weights`: of the folds, None if equal."""

    def release(
        self,
        tested: Sequence[ScoredUnits],
        validation: Sequence[ScoredUnits],
        models: Sequence[ModelName],
        why_missing: Mapping[ModelName, Missing],
    ) -> Release:
        """All figures that the site releases about one part of its units, with the digits that are
        justified. Parameters as in `exact`."""
        return rounded(self.exact(tested, validation, models, why_missing))

    def exact(
        self,
        tested: Sequence[ScoredUnits],
        validation: Sequence[ScoredUnits],
        models: Sequence[ModelName],
        why_missing: Mapping[ModelName, Missing],
    ) -> Release:
        """The figures before they are rounded.

        Parameters
        ----------
        tested
            Units of the part, in each fold.
        validation
            Validation units of the folds, on which the site chooses its threshold and calibration.
        models
            Requested models.
        why_missing
            Model -> why it has no scores, if it has none.
        """
        of_model: dict[ModelName, list[Scores]] = {}
        # The first model has the finest histogram (`Divided`).
        for model in sorted(models, key=lambda model: model != "global"):
            of_model[model] = []
            for k, outcome in enumerate(self.outcomes):
                folds = folds_with_scores(tested, [model], k)
                missing = why_missing.get(model, "not run")
                of_model[model].append(
                    self.scores(model, k, folds, tested, validation)
                    if folds
                    else Scores(model=model, outcome=outcome, missing=missing)
                )
        scores = [one for model in models for one in of_model[model]]
        noisy = [s.epsilon for s in scores if s.epsilon]
        return Release(
            part=self.part,
            scores=scores,
            comparisons=self.comparisons(tested, models) if self.compares else [],
            subgroups=self.subgroup_figures(tested) if self.compares else [],
            epsilon=sum(noisy) if noisy else None,
        )

    def is_other_sites_model(self, model: ModelName) -> bool:
        """Whether a model is the local-only model of another site. Only its AUROC is released: many
        histograms of the same patients would disclose more about them than one."""
        return home_of(model) is not None and model != self.own

    def auroc(self, folds: Sequence[Fold], *, by_pairs: bool = False) -> AurocEstimate | None:
        """Mean of the folds' AUROCs with its variance; None where no fold has both classes.

        `by_pairs`: whether folds are weighted by their number of positive-negative pairs.
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
        """AUROC of the global model minus that of the local-only model, and of the base."""
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
        """The global model in each group that the experiment names, if counts allow it. Patients
        are compared within their fold, where one model scored them. Folds are weighted by their
        pairs, because each has few patients of a group."""
        scored = any("global" in part.logits for part in tested)
        if self.disclosure.epsilon or not scored:
            return []
        figures = []
        for column, named in self.subgroups.items():
            for k, outcome in enumerate(self.outcomes):
                folds = folds_with_scores(tested, ["global"], k)
                number = len(group_names(named))
                shown = self._shown_groups(folds, column, number)
                for group in range(number):
                    inside = [f.of_group(column, group) for f in folds] if group in shown else []
                    figures.append(self._subgroup(outcome, column, group, inside))
        return figures

    def _subgroup(self, outcome: str, column: str, group: int, inside: Sequence[Fold]) -> Subgroup:
        """Figures of a group from its units in each fold, or the reason why there are none."""
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
        """Groups with enough patients of each class, and enough patients outside all of them."""
        if not folds or not self.disclosure.subgroups:
            return set()
        pooled = pool_units(folds)
        if self.disclosure.why_withheld(pooled):
            return set()
        groups = np.concatenate([fold.groups[column] for fold in folds])
        return self.disclosure.groups(pooled, groups, number)
