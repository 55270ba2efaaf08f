"""Figures over the scores of all folds together, each fold's made probabilities of first."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from fedrad.exchange.figures import Decided, OutOfFold, Probabilities
from fedrad.exchange.histogram import cells_of
from fedrad.stats import exact as figures
from fedrad.stats.exact import Logits, Units
from fedrad.stats.thresholds import choose

from .disclosure import Disclosure

Part = tuple[Logits, Units]
"""Raw logits (n,) of one model on some units, and these units."""


def out_of_fold(
    tested: Sequence[Part], validated: Sequence[Part], disclosure: Disclosure
) -> OutOfFold | None:
    """Figures of one model over the folds of one division, in which each unit is tested once.

    Scores of different models are on different scales. So a fold's are mapped by the calibration
    that the fold's validation units at this site choose, and called by the threshold that they
    choose; test units of a fold choose nothing in it. None where the validation units of a fold
    lack a class. The caller has made sure that the units of all folds together may be spoken of.
    """
    if len(tested) != len(validated) or not all(units.both for _, units in validated):
        return None
    chosen = [choose(raw, units) for raw, units in validated]
    logits = np.concatenate(
        [c.calibration.logits(raw) for c, (raw, _) in zip(chosen, tested, strict=True)]
    )
    called = np.concatenate(
        [cells_of(raw) >= c.threshold for c, (raw, _) in zip(chosen, tested, strict=True)]
    )
    everybody = together([units for _, units in tested])
    histogram = disclosure.histogram(logits, everybody, [])
    shift, slope = figures.shift_and_slope(logits, everybody)
    sides = [everybody.count_patients(side) for side in (called, ~called)]
    positive = everybody.positive
    return OutOfFold(
        average_precision=(
            figures.average_precision(logits, everybody) if everybody.both else None
        ),
        histogram=histogram,
        probabilities=Probabilities(
            by="site",
            brier=figures.brier(logits, everybody),
            intercept=shift,
            slope=slope,
            curve=disclosure.curve(histogram, logits, np.asarray(expit(logits)), everybody),
        ),
        decided=Decided(
            true_positives=int((called & positive).sum()),
            false_negatives=int((~called & positive).sum()),
            false_positives=int((called & ~positive).sum()),
            true_negatives=int((~called & ~positive).sum()),
        )
        if all(not side or side >= disclosure.minimum_units for side in sides)
        else None,
    )


def together(parts: Sequence[Units]) -> Units:
    """The units of several folds; None of them knows whose the others are unless all do."""
    patients = [units.patients for units in parts if units.patients is not None]
    return Units(
        np.concatenate([units.labels for units in parts]),
        np.concatenate(patients) if len(patients) == len(parts) else None,
    )
