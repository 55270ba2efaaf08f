"""What may leave a site: figures from enough units, whatever an experiment asks."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fedrad.exchange.histogram import count
from fedrad.exchange.messages import Confusion, Counts, Missing, ModelName, Monitoring, Scores

Logits = NDArray[np.float64]
Labels = NDArray[np.float32]


def delong_variance(logits: Logits, labels: Labels) -> float:
    """Variance of the AUROC (DeLong, DeLong & Clarke-Pearson 1988).

    S₁₀/P + S₀₁/N with S the sample variances of the placements: of a positive, the share of
    negatives below it (ties half), of a negative the share of positives above it. 0 for a class
    of one unit, which has no sample variance.
    """
    positives, negatives = np.sort(logits[labels == 1]), np.sort(logits[labels == 0])

    def share_below(values: Logits, others: Logits) -> Logits:
        below = np.searchsorted(others, values, side="left")
        not_above = np.searchsorted(others, values, side="right")
        return (below + not_above) / (2 * len(others))

    def variance(placements: Logits) -> float:
        return float(placements.var(ddof=1)) / len(placements) if len(placements) > 1 else 0.0

    return variance(share_below(positives, negatives)) + variance(share_below(negatives, positives))


class Disclosure:
    """The rule of one site in one experiment.

    A class that is present needs at least `minimum_units` units before anything about it is
    released; that a class is absent is told, as it is what makes a site a one-class site.
    """

    def __init__(self, minimum_units: int, minimum_bin: int) -> None:
        self.minimum_units = minimum_units
        self.minimum_bin = minimum_bin

    def withheld(self, labels: Labels) -> Missing | None:
        """Why nothing may be said about units with these known labels; None if it may."""
        positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
        if positives + negatives == 0:
            return "no units"
        if any(0 < n < self.minimum_units for n in (positives, negatives)):
            return "below minimum"
        return None

    def counts(self, labels: Labels) -> Counts:
        """Units of each class, None where withheld."""
        if self.withheld(labels) == "below minimum":
            return Counts(positives=None, negatives=None)
        return Counts(positives=int((labels == 1).sum()), negatives=int((labels == 0).sum()))

    def monitoring(self, logits: Logits, labels: Labels) -> Monitoring:
        """AUROC and loss for a round's curve. `logits`, `labels`: (n,), labels may be NaN."""
        known = ~np.isnan(labels)
        logits, labels = logits[known], labels[known]
        if missing := self.withheld(labels):
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
    ) -> Scores:
        """What is released of one model on one outcome. Units without a label do not count.

        Logits of NaN: the model was not made for this outcome.
        """
        if np.isnan(logits).any():
            return Scores(model=model, outcome=outcome, missing="not run")
        known = ~np.isnan(labels)
        logits, labels = logits[known], labels[known]
        if missing := self.withheld(labels):
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
            variance=delong_variance(logits, labels) if both else None,
            histogram=count(logits, labels, minimum_bin=self.minimum_bin),
            confusion=confusion,
            missing=None if both else "one class",
        )
