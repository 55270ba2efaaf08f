"""AUROC of one model on one site's units, or the mean over folds, and its variance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Logits = NDArray[np.float64]
Labels = NDArray[np.float32]
Patients = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """Units with a known outcome.

    `labels`: (n,) of 0 and 1. `patients`: (n,) whose each unit is; None: each a patient.
    """

    labels: Labels
    patients: Patients | None = None

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which units have the outcome, (n,)."""
        return np.asarray(self.labels == 1)

    @property
    def both(self) -> bool:
        """Whether both classes are there."""
        return 0 < int(self.positive.sum()) < len(self.labels)

    def select(self, chosen: NDArray[np.bool_]) -> "Units":
        """Some of the units, chosen (n,)."""
        return Units(self.labels[chosen], None if self.patients is None else self.patients[chosen])

    def count_patients(self, chosen: NDArray[np.bool_]) -> int:
        """Patients behind some units."""
        if self.patients is None:
            return int(chosen.sum())
        return len(np.unique(self.patients[chosen]))


def with_known_outcome(
    labels: Labels, patients: Patients | None
) -> tuple[NDArray[np.bool_], Units]:
    """Which of some units have a known outcome (labels (n,), NaN where not), and those units."""
    there = ~np.isnan(labels)
    return there, Units(labels, patients).select(there)


def auroc(logits: Logits, units: Units) -> float:
    """AUROC of logits (n,), ties one half. Both classes must be there."""
    return min(1.0, float(roc_auc_score(units.labels, logits)))


def deviations(logits: Logits, units: Units) -> Logits:
    """Placement of each unit minus the AUROC, (n,): of a positive the share of negatives below it
    (ties half), of a negative the share of positives above it."""
    positive = units.positive
    positives, negatives = np.sort(logits[positive]), np.sort(logits[~positive])

    def share_below(values: Logits, others: Logits) -> Logits:
        below = np.searchsorted(others, values, side="left")
        not_above = np.searchsorted(others, values, side="right")
        return np.asarray((below + not_above) / (2 * len(others)))

    found = np.empty(len(logits))
    found[positive] = share_below(logits[positive], negatives)
    found[~positive] = 1 - share_below(logits[~positive], positives)
    return np.asarray(found - found[positive].mean())


def auroc_variance(logits: Logits, units: Units) -> float:
    """Variance of the AUROC of logits (n,)."""
    return variance(deviations(logits, units), units)


def variance(deviation: Logits, units: Units) -> float:
    """Variance of an AUROC from its `deviations`, or of a difference of two AUROCs on the same
    units from the difference of theirs.

    With one unit per patient DeLong, DeLong & Clarke-Pearson (1988): S₁₀/P + S₀₁/N with S the
    sample variances of the placements. With several Obuchowski (1997), Biometrics 53:567: the same
    from each patient's sums of placements, and a covariance of the patients who have units of both
    classes. A class of one patient has no sample variance and adds 0.
    """
    positive = units.positive
    whose = np.arange(len(deviation)) if units.patients is None else units.patients
    cluster = np.unique(whose, return_inverse=True)[1]
    clusters = int(cluster.max()) + 1
    of_positives = np.bincount(cluster[positive], deviation[positive], clusters).astype(float)
    of_negatives = np.bincount(cluster[~positive], deviation[~positive], clusters).astype(float)

    def spread(one: Logits, other: Logits, members: int) -> float:
        return float(one @ other) * members / (members - 1) if members > 1 else 0.0

    p, n = int(positive.sum()), int((~positive).sum())
    with_positive = len(np.unique(cluster[positive]))
    with_negative = len(np.unique(cluster[~positive]))
    total = (
        spread(of_positives, of_positives, with_positive) / p**2
        + spread(of_negatives, of_negatives, with_negative) / n**2
        + 2 * spread(of_positives, of_negatives, clusters) / (p * n)
    )
    return max(0.0, total)  # the last term may outweigh the others among very few patients


def variance_over_folds(
    deviations: Sequence[Logits], units: Sequence[Units], weights: Sequence[float] | None = None
) -> float:
    """Variance of a weighted mean over folds of AUROCs, or of differences of two AUROCs, from the
    influence of each patient on it (LeDell, Petersen & van der Laan 2015, Electronic Journal of
    Statistics 9:1583), summed over the folds in which the patient is tested.

    Parameters
    ----------
    deviations
        Of each fold (n,), as of `variance`.
    units
        Of each fold; patients are numbered alike in all of them.
    weights
        Of each fold; all the same where None.
    """
    share = np.ones(len(units)) if weights is None else np.array(weights, float)
    influence, patients = [], []
    for deviation, fold, weight in zip(deviations, units, share / share.sum(), strict=True):
        assert fold.patients is not None
        for of_class in (fold.positive, ~fold.positive):
            n = int(of_class.sum())
            small_sample = np.sqrt(n / (n - 1)) if n > 1 else 1.0  # as in a sample variance
            influence.append(weight * deviation[of_class] * small_sample / n)
            patients.append(fold.patients[of_class])
    whose = np.unique(np.concatenate(patients), return_inverse=True)[1]
    of_patients = np.bincount(whose, np.concatenate(influence))
    return float(of_patients @ of_patients)
