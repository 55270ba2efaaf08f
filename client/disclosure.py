"""What may leave a site: figures from enough units, whatever an experiment asks."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fedrad.exchange.histogram import count
from fedrad.exchange.messages import Confusion, Counts, Missing, ModelName, Monitoring, Scores

Logits = NDArray[np.float64]
Labels = NDArray[np.float32]


Patients = NDArray[np.int64]


def delong_variance(logits: Logits, labels: Labels, patients: Patients | None = None) -> float:
    """Variance of the AUROC; all arguments (n,), labels 0 or 1.

    Without `patients`, DeLong, DeLong & Clarke-Pearson (1988): S₁₀/P + S₀₁/N with S the sample
    variances of the placements: of a positive, the share of negatives below it (ties half), of a
    negative the share of positives above it. With several images of a patient, Obuchowski (1997),
    Biometrics 53:567: the same from each patient's sums of placements, and a covariance of the
    patients who have images of both classes. One image per patient gives DeLong's variance. A
    class of one patient has no sample variance and adds 0.
    """
    positive = labels == 1
    positives, negatives = np.sort(logits[positive]), np.sort(logits[~positive])

    def share_below(values: Logits, others: Logits) -> Logits:
        below = np.searchsorted(others, values, side="left")
        not_above = np.searchsorted(others, values, side="right")
        return np.asarray((below + not_above) / (2 * len(others)))

    above = share_below(logits[positive], negatives)
    below = 1 - share_below(logits[~positive], positives)
    auroc = above.mean()
    if patients is None:
        patients = np.arange(len(labels))
    _, cluster = np.unique(patients, return_inverse=True)
    clusters = int(cluster.max()) + 1
    of_positives: Logits = np.bincount(cluster[positive], above - auroc, clusters).astype(float)
    of_negatives: Logits = np.bincount(cluster[~positive], below - auroc, clusters).astype(float)

    def spread(one: Logits, other: Logits, members: int) -> float:
        return float(one @ other) * members / (members - 1) if members > 1 else 0.0

    p, n = len(positives), len(negatives)
    with_positive = len(np.unique(cluster[positive]))
    with_negative = len(np.unique(cluster[~positive]))
    return (
        spread(of_positives, of_positives, with_positive) / p**2
        + spread(of_negatives, of_negatives, with_negative) / n**2
        + 2 * spread(of_positives, of_negatives, clusters) / (p * n)
    )


class Disclosure:
    """The rule of one site in one experiment.

    A class that is present needs at least `minimum_units` patients before anything about it is
    released; that a class is absent is told, as it is what makes a site a one-class site. Where
    a patient has several units, `patients` (n,) says whose each is, and patients are what the
    minimum counts; None: each unit is a patient.
    """

    def __init__(self, minimum_units: int, minimum_bin: int) -> None:
        self.minimum_units = minimum_units
        self.minimum_bin = minimum_bin

    def withheld(self, labels: Labels, patients: Patients | None = None) -> Missing | None:
        """Why nothing may be said about units with these known labels; None if it may."""
        positives, negatives = (_patients(labels == value, patients) for value in (1, 0))
        if positives + negatives == 0:
            return "no units"
        if any(0 < n < self.minimum_units for n in (positives, negatives)):
            return "below minimum"
        return None

    def counts(self, labels: Labels, patients: Patients | None = None) -> Counts:
        """Units of each class, None where withheld."""
        if self.withheld(labels, patients) == "below minimum":
            return Counts(positives=None, negatives=None)
        return Counts(positives=int((labels == 1).sum()), negatives=int((labels == 0).sum()))

    def monitoring(
        self, logits: Logits, labels: Labels, patients: Patients | None = None
    ) -> Monitoring:
        """AUROC and loss for a round's curve. `logits`, `labels`: (n,), labels may be NaN."""
        known = ~np.isnan(labels)
        logits, labels, patients = logits[known], labels[known], _of(patients, known)
        if missing := self.withheld(labels, patients):
            return Monitoring(missing=missing)
        loss = float(np.mean(np.logaddexp(0, logits) - labels * logits))
        if len(np.unique(labels)) < 2:
            return Monitoring(loss=loss, missing="one class")
        return Monitoring(auroc=float(roc_auc_score(labels, logits)), loss=loss)

    def scores(
        self,
        model: ModelName,
        outcome: str,
        logits: Logits,
        labels: Labels,
        threshold: float | None,
        patients: Patients | None = None,
    ) -> Scores:
        """What is released of one model on one outcome. Units without a label do not count.

        Logits of NaN: the model was not made for this outcome.
        """
        if np.isnan(logits).any():
            return Scores(model=model, outcome=outcome, missing="not run")
        known = ~np.isnan(labels)
        logits, labels, patients = logits[known], labels[known], _of(patients, known)
        if missing := self.withheld(labels, patients):
            return Scores(model=model, outcome=outcome, missing=missing)
        positive = labels == 1
        both = 0 < positive.sum() < len(labels)
        confusion = None
        if threshold is not None:
            called = logits >= threshold
            confusion = Confusion(
                true_positives=int((called & positive).sum()),
                false_negatives=int((~called & positive).sum()),
                false_positives=int((called & ~positive).sum()),
                true_negatives=int((~called & ~positive).sum()),
            )
        return Scores(
            model=model,
            outcome=outcome,
            positives=int(positive.sum()),
            negatives=int((~positive).sum()),
            auroc=float(roc_auc_score(labels, logits)) if both else None,
            variance=delong_variance(logits, labels, patients) if both else None,
            histogram=count(logits, labels, minimum_bin=self.minimum_bin, patients=patients),
            confusion=confusion,
            missing=None if both else "one class",
        )


def _patients(chosen: NDArray[np.bool_], patients: Patients | None) -> int:
    return int(chosen.sum()) if patients is None else len(np.unique(patients[chosen]))


def _of(patients: Patients | None, chosen: NDArray[np.bool_]) -> Patients | None:
    return None if patients is None else patients[chosen]
