"""Units with the scores of models: of a part of the split, and for one figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.figures import ModelName
from fedrad.stats import exact
from fedrad.stats.exact import Labels, Logits, Patients, Units, with_known_outcome

GroupNumbers = NDArray[np.int64]
"""(n,) group of each unit, -1 if it is in none."""


@dataclass(frozen=True)
class ScoredUnits:
    """Units of one part with the scores of some models for K outcomes.

    `labels`: (n, K), NaN if unknown. `patients`: (n,) number of the patient of each unit; None if
    each unit is another patient. `logits`: model -> (n, K) raw logits, NaN if the model does not
    predict an outcome. `groups`: column -> (n,) group of each unit, -1 if it is in none.
    `digests`: model -> digest of its weights, needed for figures with noise.
    """

    labels: Labels
    patients: Patients | None
    logits: Mapping[ModelName, Logits]
    groups: Mapping[str, GroupNumbers] = field(default_factory=dict)
    digests: Mapping[ModelName, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fold:
    """The units of a fold with a known outcome, and the scores of one or two models on them."""

    units: Units
    logits: Sequence[Logits]
    """(n,) raw logits of one model, or of each of two models that are compared."""
    groups: Mapping[str, GroupNumbers]

    def of_group(self, column: str, group: int) -> "Fold":
        """The units of one group in this fold."""
        inside = self.groups[column] == group
        return Fold(self.units.select(inside), [z[inside] for z in self.logits], {})

    @property
    def auroc(self) -> float:
        """AUROC of the model, or AUROC of the first minus that of the second. Both classes must be
        present."""
        first, *second = (exact.auroc(z, self.units) for z in self.logits)
        return first - second[0] if second else first

    @property
    def deviations(self) -> Logits:
        """`exact.deviations` of the model, or those of the first minus those of the second."""
        first, *second = (exact.deviations(z, self.units) for z in self.logits)
        return first - second[0] if second else first


def folds_with_scores(
    parts: Sequence[ScoredUnits], models: Sequence[ModelName], outcome: int
) -> list[Fold]:
    """Folds in which all these models were scored on one outcome.

    Parameters
    ----------
    parts
        Units of each fold.
    models
        One model, or two that are compared.
    outcome
        Number of the outcome.
    """
    folds = []
    for part in parts:
        logits = [part.logits[m][:, outcome] for m in models if m in part.logits]
        if len(logits) < len(models) or any(np.isnan(z).any() for z in logits):
            continue
        known, units = with_known_outcome(part.labels[:, outcome], part.patients)
        groups = {column: of_all[known] for column, of_all in part.groups.items()}
        folds.append(Fold(units, [z[known] for z in logits], groups))
    return folds


def pool_units(folds: Sequence[Fold]) -> Units:
    """Pool the units of several folds. A patient has the same number in all folds; if units of one
    fold have no patient numbers, the pooled units have none."""
    patients = [fold.units.patients for fold in folds if fold.units.patients is not None]
    return Units(
        np.concatenate([fold.units.labels for fold in folds]),
        np.concatenate(patients) if len(patients) == len(folds) else None,
    )
