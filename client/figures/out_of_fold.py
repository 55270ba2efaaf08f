"""Figures of the pooled scores of all folds, after the scores of each fold were calibrated."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from fedrad.exchange.figures import OutOfFold, Probabilities
from fedrad.exchange.histogram import grid_cells
from fedrad.stats import site_figures, thresholds
from fedrad.stats.decisions import count_decisions

from .divided import Divided
from .scored_units import Fold, pool_units


def out_of_fold(
    tested: Sequence[Fold],
    validated: Sequence[Fold],
    divided: Divided,
) -> OutOfFold | None:
    """Figures of one model over all folds of one division, in which each unit is tested once.

    The scores of the folds are on different scales, because each fold has its own model. So
    calibration and threshold of a fold are chosen on its validation units at this site, never on
    its test units. The caller must have checked that figures of the units of all folds together
    may be released.

    Parameters
    ----------
    tested, validated
        Test and validation units of each fold, with the model's raw logits.
    divided
        How the counts of other models divide the units, with the disclosure rule of the site.

    Returns
    -------
    OutOfFold or None
        None where the validation units of a fold lack a class.
    """
    if len(tested) != len(validated) or not all(fold.units.both for fold in validated):
        return None
    chosen = [thresholds.choose_at_site(fold.logits[0], fold.units) for fold in validated]
    pairs = [(c, fold.logits[0]) for c, fold in zip(chosen, tested, strict=True)]
    logits = np.concatenate([c.calibration.logits(raw) for c, raw in pairs])
    called = np.concatenate([grid_cells(raw) >= c.threshold for c, raw in pairs])
    pooled = pool_units(tested)
    disclosure = divided.disclosure
    sides = [pooled.count_patients(side) for side in (called, ~called)]
    enough = all(not side or side >= disclosure.minimum_units for side in sides)
    if decides := enough and divided.allows(called, pooled):
        divided.add(called)
    histogram = divided.histogram(logits, pooled)
    return OutOfFold(
        ranks=site_figures.rank_figures(logits, pooled),
        histogram=histogram,
        probabilities=Probabilities(
            by="site",
            exact=site_figures.probability_figures(logits, pooled),
            curve=disclosure.curve(histogram, logits, np.asarray(expit(logits)), pooled),
        ),
        decided=count_decisions(called, pooled.positive) if decides else None,
    )
