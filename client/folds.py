"""Figures over the folds of a cross-validation, each tested by a model of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedrad.exchange.figures import Comparison, Missing, ModelName, Release, Scores

from . import figures
from .disclosure import Disclosure
from .evaluation import Scored
from .figures import Logits, Patients, Units, known


@dataclass(frozen=True)
class _Fold:
    """A fold's units with a known outcome, whose they are, and the scores of one model or two."""

    units: Units
    patients: Patients
    logits: list[Logits]


class CrossValidation:
    """The release of a site over all folds. `outcomes`: of the experiment; `own`: name of the
    site's local-only model.

    AUROC is the mean of the folds' AUROCs, its variance from the influence of each patient on that
    mean (LeDell, Petersen & van der Laan 2015, Electronic Journal of Statistics 9:1583), summed
    over folds and repeats in which the patient is tested. The minimum of units applies to the
    patients of all folds together; a fold's own AUROC is told where its patients alone pass it.
    """

    def __init__(self, outcomes: Sequence[str], disclosure: Disclosure, own: ModelName) -> None:
        self.outcomes = outcomes
        self.disclosure = disclosure
        self.own = own

    def release(
        self,
        folds: Sequence[Scored],
        models: Sequence[ModelName],
        why_missing: Mapping[ModelName, Missing],
    ) -> Release:
        """All that leaves. `folds`: test units of each fold, their patients numbered alike.
        `why_missing`: why a model asked for has no scores."""
        outcomes = range(len(self.outcomes))
        return Release(
            part="test",
            scores=[
                self._scores(folds, m, k, why_missing.get(m, "not run"))
                for m in models for k in outcomes
            ],
            comparisons=[
                self._comparison(folds, other, k)
                for other in (self.own, "base") if other in models
                for k in outcomes
            ],
        )  # fmt: skip

    def _scores(self, folds: Sequence[Scored], model: ModelName, k: int, why: Missing) -> Scores:
        outcome, own = self.outcomes[k], _folds(folds, [model], k)
        if not own:
            return Scores(model=model, outcome=outcome, missing=why)
        everybody = _together(own)
        if self.disclosure.epsilon:
            return Scores(model=model, outcome=outcome, missing="declined")
        if missing := self.disclosure.withheld(everybody):
            return Scores(model=model, outcome=outcome, missing=missing)
        counted = Scores(
            model=model, outcome=outcome,
            positives=everybody.count_patients(everybody.positive),
            negatives=everybody.count_patients(~everybody.positive),
        )  # fmt: skip
        both = [fold for fold in own if fold.units.both]
        if not both:
            return counted.model_copy(update={"missing": "one class"})
        aurocs = [figures.auroc(fold.logits[0], fold.units) for fold in both]
        told = self._told(both)
        over_folds = {
            "auroc": float(np.mean(aurocs)),
            "variance": _variance(both),
            "folds": [value if i in told else None for i, value in enumerate(aurocs)],
        }
        return counted.model_copy(update=over_folds)

    def _told(self, folds: Sequence[_Fold]) -> set[int]:
        """Folds whose own AUROC is told. Those that are not must pass the minimum together, for
        the mean less the others tells theirs; else one more is left out."""
        told = {i for i, fold in enumerate(folds) if not self.disclosure.withheld(fold.units)}
        while told and len(told) < len(folds):
            rest = _together([fold for i, fold in enumerate(folds) if i not in told])
            if not self.disclosure.withheld(rest):
                break
            told.remove(min(told, key=lambda i: len(folds[i].units.labels)))
        return told

    def _comparison(self, folds: Sequence[Scored], other: ModelName, k: int) -> Comparison:
        empty = Comparison(model="global", other=other, outcome=self.outcomes[k])
        pairs = _folds(folds, ["global", other], k)
        if not pairs:
            return empty.model_copy(update={"missing": "not run"})
        if self.disclosure.epsilon:
            return empty.model_copy(update={"missing": "declined"})
        if missing := self.disclosure.withheld(_together(pairs)):
            return empty.model_copy(update={"missing": missing})
        both = [fold for fold in pairs if fold.units.both]
        if not both:
            return empty.model_copy(update={"missing": "one class"})
        apart = [
            figures.auroc(fold.logits[0], fold.units) - figures.auroc(fold.logits[1], fold.units)
            for fold in both
        ]
        found = {"difference": float(np.mean(apart)), "variance": _variance(both)}
        return empty.model_copy(update=found)


def _folds(folds: Sequence[Scored], models: Sequence[ModelName], k: int) -> list[_Fold]:
    """The folds in which all these models were scored on outcome `k`."""
    found = []
    for fold in folds:
        there, units = known(fold.labels[:, k], fold.patients)
        logits = [fold.logits[m][there, k] for m in models if m in fold.logits]
        assert units.patients is not None
        if len(logits) == len(models) and not any(np.isnan(z).any() for z in logits):
            found.append(_Fold(units, units.patients, logits))
    return found


def _together(folds: Sequence[_Fold]) -> Units:
    return Units(
        np.concatenate([fold.units.labels for fold in folds]),
        np.concatenate([fold.patients for fold in folds]),
    )


def _variance(folds: Sequence[_Fold]) -> float:
    """Variance of the mean over folds of the AUROC of the first model, less that of the second."""
    influence, patients = [], []
    for fold in folds:
        deviation = figures.deviations(fold.logits[0], fold.units)
        for other in fold.logits[1:]:
            deviation = deviation - figures.deviations(other, fold.units)
        for of_class in (fold.units.positive, ~fold.units.positive):
            n = int(of_class.sum())
            small_sample = np.sqrt(n / (n - 1)) if n > 1 else 1.0  # as in a sample variance
            influence.append(deviation[of_class] * small_sample / (n * len(folds)))
            patients.append(fold.patients[of_class])
    whose = np.unique(np.concatenate(patients), return_inverse=True)[1]
    of_patients = np.bincount(whose, np.concatenate(influence))
    return float(of_patients @ of_patients)
