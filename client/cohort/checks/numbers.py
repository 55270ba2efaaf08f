"""Checks of the number of units, and of the precision that it allows."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedrad.client.cohort.evidence import Evidence
from fedrad.stats.intervals import large_sample_interval

from .check import Check, CheckFinding

EXAMPLE_AUROC = 0.8
"""AUROC for which the narrowest interval is stated."""
CONFIDENCE = 0.95
"""Level of the intervals that checks state."""
ENOUGH_UNITS = 100
"""Test units of the rarer class from which the narrowest interval is no longer stated."""


def narrowest_interval(
    units: int, *, positive: bool, auroc: float = EXAMPLE_AUROC
) -> tuple[float, float]:
    """The 95 % interval with this many units of one class and unlimited units of the other.

    Variance by Hanley & McNeil for exponential scores. With N → ∞ negatives it tends to
    (Q₂ − A²)/P, Q₂ = 2A²/(1 + A); with P → ∞ positives to (Q₁ − A²)/N, Q₁ = A/(2 − A). More units
    of the other class cannot make the interval narrower.

    Parameters
    ----------
    units
        Number of units of the rarer class.
    positive
        Whether the rarer class is the positive one.
    auroc
        The AUROC, in (0, 1).

    References
    ----------
    Hanley & McNeil (1982), Radiology 143:29, eq. 1.
    """
    q = 2 * auroc**2 / (1 + auroc) if positive else auroc / (2 - auroc)
    return large_sample_interval(auroc, (q - auroc**2) / units, CONFIDENCE)


class TooFewUnits(Check[Evidence]):
    """Too few units of a class, or a class that is missing."""

    name = "too few units per class"
    problem = "What a cohort can show is bounded by its rarer class, whatever the model."
    remedy = (
        "Add patients of that class, or take part for the sake of the others; figures of fewer "
        "units than the minimum are withheld."
    )

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """Findings per outcome, and per part if an experiment divides the units."""
        all_units: dict[str, NDArray[np.int64]] = {"": np.arange(len(subject.units))}
        parts = dict(subject.parts.items()) or all_units
        labels = subject.labels[subject.units]
        for at, outcome in enumerate(subject.table.outcomes):
            of_training = " of this training" if subject.cross_validated else ""
            for part, members in parts.items():
                where = f" in the {part} part{of_training}" if part else ""
                counts = {c: int((labels[members, at] == c).sum()) for c in (1, 0)}
                if not part and min(counts.values()) == 0:
                    word = "with" if counts[0] == 0 else "without"
                    yield CheckFinding(
                        f"{outcome}: all units with a known outcome are {word} it; the site "
                        "evaluates, and does not train unless the experiment says so"
                    )
                    continue
                for value, word in ((1, "positives"), (0, "negatives")):
                    n = counts[value]
                    if 0 < n < subject.minimum:
                        yield CheckFinding(
                            f"{outcome}: {n} {word}{where}, fewer than {subject.minimum}: "
                            "figures are withheld"
                        )
            yield from self._precision(subject, at, outcome, labels)

    def _precision(
        self, subject: Evidence, at: int, outcome: str, labels: NDArray[np.float64]
    ) -> Iterator[CheckFinding]:
        """The narrowest interval. A cross-validation tests all units, and its mean over folds with
        P positives in total has the variance of one test on P positives."""
        members, where = np.arange(len(subject.units)), ""
        if subject.cross_validated:
            where = " over all folds"
        elif "test" in subject.parts:
            members, where = subject.parts["test"], " in the test part"
        positives, negatives = (int((labels[members, at] == c).sum()) for c in (1, 0))
        rarer, positive = min((positives, True), (negatives, False))
        if not 0 < rarer < ENOUGH_UNITS:
            return
        low, high = narrowest_interval(rarer, positive=positive)
        rare, other = ("positives", "negatives") if positive else ("negatives", "positives")
        yield CheckFinding(
            f"{outcome}: with {rarer} {rare}{where} no interval can be narrower than {low:.2f} to "
            f"{high:.2f} at an AUROC of {EXAMPLE_AUROC:.2f}, however many {other} there are "
            "(Hanley & McNeil 1982)",
            severity="warning" if rarer < 20 else "information",
        )
