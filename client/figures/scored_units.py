"""Units with the scores of models: all of a part, and those of which one figure is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.figures import ModelName
from fedrad.stats import exact
from fedrad.stats.exact import Labels, Logits, Patients, Units, with_known_outcome

GroupNumbers = NDArray[np.int64]
"""(n,) group of each unit, -1 for none."""


@dataclass(frozen=True)
class ScoredUnits:
    """A part of the units with the scores of some models.

    `labels`: (n, K), NaN where unknown. `logits`: model -> (n, K) raw logits, NaN where the model
    was not made for an outcome. `groups`: column -> (n,) group of each unit, -1 for none.
    """

    labels: Labels
    patients: Patients | None
    logits: Mapping[ModelName, Logits]
    groups: Mapping[str, GroupNumbers] = field(default_factory=dict)


@dataclass(frozen=True)
class Fold:
    """A fold's units with a known outcome, and the scores on them of the models compared."""

    units: Units
    logits: Sequence[Logits]
    """Of one model or of two, (n,) each."""
    groups: Mapping[str, GroupNumbers]

    def of_group(self, column: str, group: int) -> "Fold":
        """The same of one group."""
        inside = self.groups[column] == group
        return Fold(self.units.select(inside), [z[inside] for z in self.logits], {})

    @property
    def auroc(self) -> float:
        """AUROC of the model, or of the first less that of the second. Both classes must be
        there."""
        first, *others = (exact.auroc(z, self.units) for z in self.logits)
        return first - others[0] if others else first

    @property
    def deviations(self) -> Logits:
        """`exact.deviations` of the model, or of the first less those of the second."""
        first, *others = (exact.deviations(z, self.units) for z in self.logits)
        return first - others[0] if others else first


def folds_with_scores(
    parts: Sequence[ScoredUnits], models: Sequence[ModelName], outcome: int
) -> list[Fold]:
    """The folds in which all these models were scored on the outcome with this number."""
    found = []
    for part in parts:
        logits = [part.logits[m][:, outcome] for m in models if m in part.logits]
        if len(logits) < len(models) or any(np.isnan(z).any() for z in logits):
            continue
        there, units = with_known_outcome(part.labels[:, outcome], part.patients)
        groups = {column: of_all[there] for column, of_all in part.groups.items()}
        found.append(Fold(units, [z[there] for z in logits], groups))
    return found


def pool_units(folds: Sequence[Fold]) -> Units:
    """The units of several folds. Patients are numbered alike in all of them; where one fold has
    none because each unit is a patient, none has."""
    patients = [fold.units.patients for fold in folds if fold.units.patients is not None]
    return Units(
        np.concatenate([fold.units.labels for fold in folds]),
        np.concatenate(patients) if len(patients) == len(folds) else None,
    )
