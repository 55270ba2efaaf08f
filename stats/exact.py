"""AUROC and its variance from the scores of one site: of one split, or the mean over folds."""

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

    `labels`: (n,) in {0, 1}. `patients`: (n,) number of the patient of each unit; None if each
    unit is another patient.
    """

    labels: Labels
    patients: Patients | None = None

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which units have the outcome, (n,)."""
        return np.asarray(self.labels == 1)

    @property
    def both(self) -> bool:
        """Whether both classes are present."""
        return 0 < int(self.positive.sum()) < len(self.labels)

    def select(self, chosen: NDArray[np.bool_]) -> "Units":
        """The units that are chosen, (n,)."""
        return Units(self.labels[chosen], None if self.patients is None else self.patients[chosen])

    def count_patients(self, chosen: NDArray[np.bool_]) -> int:
        """Number of patients to whom the chosen units (n,) belong."""
        if self.patients is None:
            return int(chosen.sum())
        return len(np.unique(self.patients[chosen]))


def with_known_outcome(
    labels: Labels, patients: Patients | None
) -> tuple[NDArray[np.bool_], Units]:
    """Which units have a known outcome, (n,); and these units. `labels`: (n,), NaN if unknown."""
    known = ~np.isnan(labels)
    return known, Units(labels, patients).select(known)


def auroc(logits: Logits, units: Units) -> float:
    """AUROC of logits (n,); ties count one half. Both classes must be present."""
    return min(1.0, float(roc_auc_score(units.labels, logits)))


def deviations(logits: Logits, units: Units) -> Logits:
    """Placement of each unit minus the AUROC, (n,). The placement of a positive is the share of
    negatives below it, that of a negative the share of positives above it; ties count one half."""
    positive = units.positive
    positives, negatives = np.sort(logits[positive]), np.sort(logits[~positive])

    def share_below(values: Logits, others: Logits) -> Logits:
        below = np.searchsorted(others, values, side="left")
        not_above = np.searchsorted(others, values, side="right")
        return np.asarray((below + not_above) / (2 * len(others)))

    placements = np.empty(len(logits))
    placements[positive] = share_below(logits[positive], negatives)
    placements[~positive] = 1 - share_below(logits[~positive], positives)
    return np.asarray(placements - placements[positive].mean())


def auroc_variance(logits: Logits, units: Units) -> float:
    """Variance of the AUROC of logits (n,)."""
    return variance(deviations(logits, units), units)


def variance(deviation: Logits, units: Units) -> float:
    """Variance of an AUROC from its `deviations`, or of a difference of two AUROCs on the same
    units from the difference of their deviations (n,).

    With one unit per patient it is S₁₀/P + S₀₁/N, where S are the sample variances of the
    placements. With several units per patient the placements are summed by patient, and a
    covariance is added for patients with units of both classes. A class of one patient has no
    sample variance and adds 0.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837. Obuchowski 1997, Biometrics 53:567.
    """
    positive = units.positive
    patients = np.arange(len(deviation)) if units.patients is None else units.patients
    cluster = np.unique(patients, return_inverse=True)[1]
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
    influence of each patient on it, summed over the folds in which the patient is tested.

    Parameters
    ----------
    deviations
        (n,) for each fold, as for `variance`.
    units
        The n units of each fold; a patient has the same number in all folds.
    weights
        Weight of each fold; None for equal weights.

    References
    ----------
    LeDell, Petersen & van der Laan 2015, Electronic Journal of Statistics 9:1583.
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
    patient_of = np.unique(np.concatenate(patients), return_inverse=True)[1]
    by_patient = np.bincount(patient_of, np.concatenate(influence))
    return float(by_patient @ by_patient)
