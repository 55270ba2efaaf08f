"""Checks whether the figures of a site are consistent."""

from itertools import pairwise

from fedrad.exchange.figures import Probabilities, Scores
from fedrad.exchange.histogram import Histogram
from fedrad.exchange.rounding import step_of
from fedrad.stats.auroc import pair_auroc


def contradiction(scores: Scores) -> str | None:
    """The contradiction in the figures of a site, as text; None if they are consistent.

    Counts must equal those of the histogram. An AUROC must lie within the certified bound of its
    histogram, but for the rounding that its variance allows. The bins of a calibration curve must
    be unions of the histogram's bins, none empty. In a cross-validation a patient may have several
    units and scores, so the histogram may hold more entries than the reported counts. The counts
    at the thresholds must equal those of the histogram.
    """
    why = None
    if (h := scores.histogram) is not None:
        counts = (max(0, h.total_positives), max(0, h.total_negatives))
        if h.noisy != (scores.epsilon is not None):
            why = "noise is claimed for exact counts, or not claimed"
        elif counts != (scores.positives, scores.negatives):
            why = "counts are not those of the histogram"
        elif scores.auroc is not None and not _possible(scores.auroc, scores.variance, h):
            why = "AUROC is not possible with this histogram"
        elif scores.probabilities and not _is_curve_of(h, scores.probabilities):
            why = "the calibration curve is not of this histogram"
    elif (o := scores.out_of_fold) is not None:
        counts = (o.histogram.total_positives, o.histogram.total_negatives)
        if o.histogram.noisy or any(
            in_histogram < reported
            for in_histogram, reported in zip(
                counts, (scores.positives, scores.negatives), strict=True
            )
        ):
            why = "the histogram of all folds lacks patients"
        elif o.decided and counts != (
            o.decided.true_positives + o.decided.false_negatives,
            o.decided.false_positives + o.decided.true_negatives,
        ):
            why = "what folds decided is not of the histogram's units"
        elif not _is_curve_of(o.histogram, o.probabilities):
            why = "the calibration curve is not of this histogram"
    return f"{scores.model}, {scores.outcome}: {why}" if why else None


def _possible(auroc: float, variance: float | None, h: Histogram) -> bool:
    if not h.total_positives or not h.total_negatives:
        return False
    value, bound = pair_auroc(h, h)
    rounding = step_of(variance) / 2
    return abs(value - auroc) <= bound + rounding + 1e-9


def _is_curve_of(h: Histogram, probabilities: Probabilities) -> bool:
    ends = [b.end for b in probabilities.curve]
    if not set(ends) <= set(h.edges) or not ends or ends[-1] != h.edges[-1]:
        return False
    places = [0, *(h.edges.index(end) for end in ends)]
    return all(
        low < high and sum(h.positives[low:high]) + sum(h.negatives[low:high])
        for low, high in pairwise(places)
    )
