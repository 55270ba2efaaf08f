"""Exact figures of one model on one site's units, and their variances."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from fedrad.models.calibration import maximum_likelihood

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

    def of(self, chosen: NDArray[np.bool_]) -> "Units":
        """Some of the units, chosen (n,)."""
        return Units(self.labels[chosen], None if self.patients is None else self.patients[chosen])

    def count_patients(self, chosen: NDArray[np.bool_]) -> int:
        """Patients behind some units."""
        if self.patients is None:
            return int(chosen.sum())
        return len(np.unique(self.patients[chosen]))


def known(labels: Labels, patients: Patients | None) -> tuple[NDArray[np.bool_], Units]:
    """Which of some units have a known outcome (labels (n,), NaN where not), and those units."""
    there = ~np.isnan(labels)
    return there, Units(labels, patients).of(there)


def auroc(logits: Logits, units: Units) -> float:
    """AUROC of logits (n,), ties one half. Both classes must be there."""
    return min(1.0, float(roc_auc_score(units.labels, logits)))


def average_precision(logits: Logits, units: Units) -> float:
    """Area under precision over recall as a sum of steps; the chance level is the prevalence."""
    found = float(average_precision_score(units.labels, logits))
    return min(1.0, found)  # its sum of steps may round to a hair above


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


def brier(logits: Logits, units: Units) -> float:
    """Mean of (p - y)², logits (n,) being calibrated."""
    return float(np.mean((expit(logits) - units.labels) ** 2))


def shift_and_slope(logits: Logits, units: Units) -> tuple[float | None, float | None]:
    """Calibration in the large and calibration slope of calibrated logits (Van Calster et al. 2019,
    BMC Medicine 17:230): the intercept at a slope of 1, and the slope of a free fit.

    The shift is None where a class is missing, the slope also where the classes are separated.
    """
    if not units.both:
        return None, None
    y = units.labels.astype(float)
    reach = float(np.abs(logits).max()) + 40.0
    shift = brentq(lambda a: float(np.sum(expit(logits + a) - y)), -reach, reach, xtol=1e-10)
    fitted = maximum_likelihood(logits, y, 1 - y)
    return float(shift), None if fitted is None else fitted[1]
