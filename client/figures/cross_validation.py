"""Figures over the folds of a cross-validation, each tested by a model of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.experiment import Groups, group_names
from fedrad.exchange.figures import Comparison, Missing, ModelName, Release, Scores, Subgroup
from fedrad.stats import exact as figures
from fedrad.stats.exact import Logits, Patients, Units, known

from .disclosure import Disclosure
from .evaluation import Scored
from .out_of_fold import out_of_fold, together


@dataclass(frozen=True)
class _Fold:
    """A fold's units with a known outcome, whose they are, the scores of one model or two, and
    column -> group of each unit."""

    units: Units
    patients: Patients
    logits: list[Logits]
    groups: Mapping[str, NDArray[np.int64]]

    def of(self, column: str, group: int) -> "_Fold":
        """The same of one group."""
        inside = self.groups[column] == group
        return _Fold(
            self.units.of(inside), self.patients[inside], [z[inside] for z in self.logits], {}
        )


class CrossValidation:
    """The release of a site over all folds. `outcomes`: of the experiment; `own`: name of the
    site's local-only model; `subgroups`: column -> its groups.

    AUROC is the mean of the folds' AUROCs, its variance from the influence of each patient on that
    mean (LeDell, Petersen & van der Laan 2015, Electronic Journal of Statistics 9:1583), summed
    over folds and repeats in which the patient is tested. The minimum of units applies to the
    patients of all folds together; a fold's own AUROC is told where its patients alone pass it.
    """

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

    def release(
        self,
        folds: Sequence[Scored],
        models: Sequence[ModelName],
        why_missing: Mapping[ModelName, Missing],
        validation: Sequence[Scored] = (),
    ) -> Release:
        """All that leaves. `folds`: test units of each fold, their patients numbered alike.
        `why_missing`: why a model asked for has no scores. `validation`: validation units of the
        folds of the first division, which come first."""
        outcomes = range(len(self.outcomes))
        return Release(
            part="test",
            scores=[
                self._scores(folds, validation, m, k, why_missing.get(m, "not run"))
                for m in models
                for k in outcomes
            ],
            comparisons=[
                self._comparison(folds, other, k)
                for other in (self.own, "base")
                if other in models
                for k in outcomes
            ],
            subgroups=[s for k in outcomes for s in self._of_groups(folds, k)]
            if "global" in models and not self.disclosure.epsilon
            else [],
        )

    def _scores(
        self,
        folds: Sequence[Scored],
        validation: Sequence[Scored],
        model: ModelName,
        k: int,
        why: Missing,
    ) -> Scores:
        outcome, own = self.outcomes[k], _folds(folds, [model], k)
        if not own:
            return Scores(model=model, outcome=outcome, missing=why)
        everybody = together([fold.units for fold in own])
        guest = model.startswith("local:") and model != self.own  # gets its AUROC only, as ever
        if self.disclosure.epsilon:
            return Scores(model=model, outcome=outcome, missing="declined")
        if missing := self.disclosure.withheld(everybody):
            return Scores(model=model, outcome=outcome, missing=missing)
        counted = Scores(
            model=model,
            outcome=outcome,
            positives=everybody.count_patients(everybody.positive),
            negatives=everybody.count_patients(~everybody.positive),
            out_of_fold=out_of_fold(
                _parts(folds[: len(validation)], model, k),
                _parts(validation, model, k),
                self.disclosure,
            )
            if validation and not guest and self.disclosure.histograms
            else None,
            histogram_missing=None if guest or self.disclosure.histograms else "declined",
        )
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
            rest = together([fold.units for i, fold in enumerate(folds) if i not in told])
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
        if missing := self.disclosure.withheld(together([pair.units for pair in pairs])):
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

    def _of_groups(self, folds: Sequence[Scored], k: int) -> list[Subgroup]:
        """The global model in each group, where counts permit. Patients are compared within their
        fold, under one model: folds weigh by their pairs, for few of a group are in each."""
        own, found = _folds(folds, ["global"], k), []
        for column, named in self.subgroups.items():
            told = self._groups_told(own, column, len(group_names(named)))
            for group in range(len(group_names(named))):
                empty = Subgroup(outcome=self.outcomes[k], column=column, group=group)
                if not self.disclosure.subgroups:
                    found.append(empty.model_copy(update={"missing": "declined"}))
                    continue
                if group not in told:
                    found.append(empty.model_copy(update={"missing": "below minimum"}))
                    continue
                inside = [fold.of(column, group) for fold in own]
                everybody = together([fold.units for fold in inside])
                both = [fold for fold in inside if fold.units.both]
                if not both:
                    found.append(empty.model_copy(update={"missing": "one class"}))
                    continue
                sizes = [(int(f.units.positive.sum()), len(f.units.labels)) for f in both]
                pairs = [positives * (total - positives) for positives, total in sizes]
                aurocs = [figures.auroc(fold.logits[0], fold.units) for fold in both]
                of_group = {
                    "positives": everybody.count_patients(everybody.positive),
                    "negatives": everybody.count_patients(~everybody.positive),
                    "auroc": min(1.0, float(np.average(aurocs, weights=pairs))),
                    "variance": _variance(both, pairs),
                }
                found.append(empty.model_copy(update=of_group))
        return found

    def _groups_told(self, folds: Sequence[_Fold], column: str, number: int) -> set[int]:
        if not folds:
            return set()
        everybody = together([fold.units for fold in folds])
        if self.disclosure.withheld(everybody):
            return set()
        groups = np.concatenate([fold.groups[column] for fold in folds])
        return self.disclosure.groups(everybody, groups, number)


def _folds(folds: Sequence[Scored], models: Sequence[ModelName], k: int) -> list[_Fold]:
    """The folds in which all these models were scored on outcome `k`."""
    found = []
    for fold in folds:
        there, units = known(fold.labels[:, k], fold.patients)
        logits = [fold.logits[m][there, k] for m in models if m in fold.logits]
        assert units.patients is not None
        if len(logits) == len(models) and not any(np.isnan(z).any() for z in logits):
            groups = {column: of_all[there] for column, of_all in fold.groups.items()}
            found.append(_Fold(units, units.patients, logits, groups))
    return found


def _parts(folds: Sequence[Scored], model: ModelName, k: int) -> list[tuple[Logits, Units]]:
    return [(fold.logits[0], fold.units) for fold in _folds(folds, [model], k)]


def _variance(folds: Sequence[_Fold], weights: Sequence[float] | None = None) -> float:
    """Variance of the weighted mean over folds (plain unless weights are given) of the AUROC of the
    first model, less that of the second."""
    share = np.ones(len(folds)) if weights is None else np.array(weights, float)
    influence, patients = [], []
    for fold, weight in zip(folds, share / share.sum(), strict=True):
        deviation = figures.deviations(fold.logits[0], fold.units)
        for other in fold.logits[1:]:
            deviation = deviation - figures.deviations(other, fold.units)
        for of_class in (fold.units.positive, ~fold.units.positive):
            n = int(of_class.sum())
            small_sample = np.sqrt(n / (n - 1)) if n > 1 else 1.0  # as in a sample variance
            influence.append(weight * deviation[of_class] * small_sample / n)
            patients.append(fold.patients[of_class])
    whose = np.unique(np.concatenate(patients), return_inverse=True)[1]
    of_patients = np.bincount(whose, np.concatenate(influence))
    return float(of_patients @ of_patients)
