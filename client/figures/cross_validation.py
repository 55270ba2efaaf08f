"""Release of a cross-validation: mean of the folds' AUROCs, and figures of all folds together."""

from collections.abc import Sequence

from fedrad.exchange.figures import Missing, ModelName, Scores
from fedrad.stats import exact
from fedrad.stats.exact import Units

from .evaluation import SiteEvaluation
from .out_of_fold import out_of_fold
from .scored_units import Fold, ScoredUnits, folds_with_scores, pool_units


class CrossValidation(SiteEvaluation):
    """The release of a site over all folds of a cross-validation; each fold has its own model.

    The minimum number of units applies to the patients of all folds together. The AUROC of a single
    fold is released if its patients alone reach the minimum. Validation units are those of the
    folds of the first division into folds; these folds come first.
    """

    def why_withheld(self, units: Units) -> Missing | None:
        """By the rule of the site; if histograms must carry noise, no figure is released."""
        return "declined" if self.disclosure.epsilon else self.disclosure.why_withheld(units)

    def counts(self, units: Units) -> tuple[int, int]:
        """Number of patients of each class."""
        return units.count_patients(units.positive), units.count_patients(~units.positive)

    def variance(self, folds: Sequence[Fold], weights: Sequence[float] | None) -> float:
        """Variance from the influence of each patient on the mean."""
        return exact.variance_over_folds(
            [fold.deviations for fold in folds], [fold.units for fold in folds], weights
        )

    def scores(
        self,
        model: ModelName,
        outcome: int,
        folds: Sequence[Fold],
        tested: Sequence[ScoredUnits],
        validation: Sequence[ScoredUnits],
    ) -> Scores:
        """Figures of one model for one outcome; the AUROC is the mean of the folds' AUROCs."""
        name, pooled = self.outcomes[outcome], pool_units(folds)
        if missing := self.why_withheld(pooled):
            return Scores(model=model, outcome=name, missing=missing)
        visiting = self.is_other_sites_model(model)
        whole = None
        if validation and not visiting and self.disclosure.histograms:
            first = folds_with_scores(tested[: len(validation)], [model], outcome)
            whole = out_of_fold(
                first, folds_with_scores(validation, [model], outcome), self.divided[outcome]
            )
        both = [fold for fold in folds if fold.units.both]
        shown = self._shown_folds(both)
        positives, negatives = self.counts(pooled)
        auroc = self.auroc(folds)
        return Scores(
            model=model,
            outcome=name,
            positives=positives,
            negatives=negatives,
            auroc=auroc.value if auroc else None,
            variance=auroc.variance if auroc else None,
            folds=[fold.auroc if i in shown else None for i, fold in enumerate(both)],
            out_of_fold=whole,
            histogram_missing=None if visiting or self.disclosure.histograms else "declined",
            missing=None if auroc else "one class",
        )

    def _shown_folds(self, folds: Sequence[Fold]) -> set[int]:
        """Folds whose AUROC is released. The other folds together must reach the minimum, because
        their mean can be computed from the overall mean; if not, one more fold is withheld."""
        shown = {i for i, fold in enumerate(folds) if not self.disclosure.why_withheld(fold.units)}
        while shown and len(shown) < len(folds):
            rest = pool_units([fold for i, fold in enumerate(folds) if i not in shown])
            if not self.disclosure.why_withheld(rest):
                break
            shown.remove(min(shown, key=lambda i: len(folds[i].units.labels)))
        return shown
