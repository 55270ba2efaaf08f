"""From what one site released of one model to the figures shown of it."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from fedrad.exchange.figures import (
    Decided,
    Line,
    Missing,
    Operating,
    OutOfFold,
    Probabilities,
    Scores,
)
from fedrad.exchange.histogram import GRID, Histogram
from fedrad.stats.auroc import pair_auroc, site_estimate
from fedrad.stats.decisions import Confusion, NetBenefit, confusion, net_benefit
from fedrad.stats.intervals import wilson

from .parts import Cell, CurvePoint, NetBenefitPoint

BENEFIT_THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Threshold probabilities for net benefit: 0.05 to 0.95."""
CALIBRATED = Line(intercept=0.0, slope=1.0)
"""From the calibrated logits of an out-of-fold histogram to calibrated logits."""


def cell_of(
    model: str,
    site: str,
    scores: Scores,
    operating: Operating | None,
    confidence: float,
    *,
    clustered: bool,
) -> Cell:
    """A cell of the summary. `operating`: common threshold and calibration of this model and
    outcome; None for a local-only one. `clustered`: patients may have several units, so that shares
    get no interval."""
    estimate = site_estimate(scores, confidence)
    told = scores.missing in (None, "one class")
    total = scores.positives + scores.negatives
    found = Cell(
        model=model,
        site=site,
        outcome=scores.outcome,
        auroc=estimate.value if estimate else None,
        ci=estimate.interval if estimate else None,
        positives=scores.positives if told else None,
        negatives=scores.negatives if told else None,
        prevalence=scores.positives / total if told and total else None,
        average_precision=scores.average_precision,
        folds=scores.folds,
        epsilon=scores.epsilon,
        missing=scores.missing,
    )
    if scores.out_of_fold is not None and total:
        shown = _out_of_fold(scores.out_of_fold, None if clustered else confidence)
        return found.model_copy(update=shown)
    h = scores.histogram
    if scores.histogram_missing is not None:
        withheld = dict.fromkeys(("sensitivity", "site_threshold"), scores.histogram_missing)
        return found.model_copy(update={"withheld": withheld})
    if h is None or not total:
        return found
    return found.model_copy(
        update=_decisions(scores, h, operating, confidence, clustered=clustered)
        | _probabilities(scores.probabilities, scores.site_brier, h)
        | {
            "net_benefit": _benefit(h, operating.calibration if operating else None),
            "roc": _roc(h),
        }
    )


def _out_of_fold(found: OutOfFold, confidence: float | None) -> dict[str, object]:
    """What a cell shows of all folds together."""
    decided = shares(confusion_of(found.decided), confidence) if found.decided else {}
    return (
        {
            "average_precision": found.average_precision,
            "net_benefit": _benefit(found.histogram, CALIBRATED),
            "roc": _roc(found.histogram),
            "withheld": {} if decided else {"sensitivity": "below minimum"},
        }
        | decided
        | _probabilities(found.probabilities, found.probabilities.brier, found.histogram)
    )


def confusion_of(decided: Decided) -> Confusion:
    """What a site's folds decided, as counts that add up."""
    return Confusion(**decided.model_dump())


def _decisions(
    scores: Scores, h: Histogram, operating: Operating | None, confidence: float, *, clustered: bool
) -> dict[str, object]:
    found: dict[str, object] = {}
    withheld: dict[str, Missing] = {}
    if operating is not None:
        if (common := confusion(h, operating.threshold)) is not None:
            found |= shares(common, None if clustered else confidence)
        else:
            withheld["sensitivity"] = "below minimum"
    if scores.site_threshold is not None:
        found["site_threshold"] = float(GRID[scores.site_threshold])
        if (own := confusion(h, scores.site_threshold)) is not None:
            found |= {f"site_{name}": value for name, value in shares(own, None).items()}
        else:
            withheld["site_sensitivity"] = "below minimum"
    elif scores.epsilon is None:
        withheld["site_threshold"] = "below minimum"
    return found | {"withheld": withheld}


def shares(c: Confusion, confidence: float | None) -> dict[str, object]:
    """Sensitivity, specificity and predictive values, those with a denominator; with Wilson's
    intervals where a confidence is given."""
    found: dict[str, object] = {}
    for name, part, rest in (
        ("sensitivity", c.true_positives, c.false_negatives),
        ("specificity", c.true_negatives, c.false_positives),
        ("ppv", c.true_positives, c.false_positives),
        ("npv", c.true_negatives, c.false_negatives),
    ):
        if part + rest:
            found[name] = part / (part + rest)
            if confidence is not None:
                found[f"{name}_ci"] = wilson(part, part + rest, confidence)
    return found


def _probabilities(
    p: Probabilities | None, site_brier: float | None, h: Histogram
) -> dict[str, object]:
    if p is None:
        return {}
    curve = curve_points(p, h)
    total = sum(point.units for point in curve)
    gaps = sum(point.units * abs(point.observed - point.probability) for point in curve)
    return {
        "calibrated_by": p.by,
        "brier": p.brier,
        "site_brier": site_brier,
        "calibration_intercept": p.intercept,
        "calibration_slope": p.slope,
        "ece": gaps / total,
        "calibration_curve": curve,
    }


def curve_points(probabilities: Probabilities, h: Histogram) -> list[CurvePoint]:
    """The calibration curve: probabilities as the site sent them, shares from the histogram."""
    points, start = [], 0
    for b in probabilities.curve:
        end = h.edges.index(b.end)
        positives, negatives = sum(h.positives[start:end]), sum(h.negatives[start:end])
        start = end
        units = positives + negatives
        points.append(CurvePoint(probability=b.mean, observed=positives / units, units=units))
    return points


def _roc(h: Histogram) -> list[tuple[float, float]]:
    """The ROC curve at the histogram's edges, from the highest score down; none without both
    classes."""
    p, n = h.total_positives, h.total_negatives
    if h.noisy or not p or not n:
        return []
    true = [0, *accumulate(reversed(h.positives))]
    false = [0, *accumulate(reversed(h.negatives))]
    return [(f / n, t / p) for f, t in zip(false, true, strict=True)]


def _benefit(h: Histogram, calibration: Line | None) -> list[NetBenefitPoint]:
    if calibration is None:
        return []
    return points_of(net_benefit(h, calibration, BENEFIT_THRESHOLDS))


def points_of(found: Sequence[NetBenefit]) -> list[NetBenefitPoint]:
    """Net benefits as the summary has them."""
    return [
        NetBenefitPoint(threshold=b.threshold, value=b.value, bound=b.bound, treat_all=b.treat_all)
        for b in found
    ]


def fault(scores: Scores) -> str | None:
    """What contradicts itself in a site's figures; None where nothing does.

    Counts must be the histogram's; an exact AUROC must lie within the certified bound of its own
    histogram; a curve's bins must be unions of the histogram's, none empty. Of folds, a patient may
    have several units and several scores; what folds decided must be of the histogram's units.
    """
    why = None
    if (h := scores.histogram) is not None:
        counts = (max(0, h.total_positives), max(0, h.total_negatives))
        if h.noisy != (scores.epsilon is not None):
            why = "noise is claimed for exact counts, or not claimed"
        elif counts != (scores.positives, scores.negatives):
            why = "counts are not those of the histogram"
        elif scores.auroc is not None and not _possible(scores.auroc, h):
            why = "AUROC is not possible with this histogram"
        elif scores.probabilities and not _is_curve_of(h, scores.probabilities):
            why = "the calibration curve is not of this histogram"
    elif (o := scores.out_of_fold) is not None:
        counts = (o.histogram.total_positives, o.histogram.total_negatives)
        decided = confusion_of(o.decided) if o.decided else None
        if o.histogram.noisy or any(
            held < claimed
            for held, claimed in zip(counts, (scores.positives, scores.negatives), strict=True)
        ):
            why = "the histogram of all folds lacks patients"
        elif decided and counts != (
            decided.true_positives + decided.false_negatives,
            decided.false_positives + decided.true_negatives,
        ):
            why = "what folds decided is not of the histogram's units"
        elif not _is_curve_of(o.histogram, o.probabilities):
            why = "the calibration curve is not of this histogram"
    return f"{scores.model}, {scores.outcome}: {why}" if why else None


def _possible(auroc: float, h: Histogram) -> bool:
    if not h.total_positives or not h.total_negatives:
        return False
    value, bound = pair_auroc(h, h)
    return abs(value - auroc) <= bound + 1e-9


def _is_curve_of(h: Histogram, probabilities: Probabilities) -> bool:
    ends = [b.end for b in probabilities.curve]
    if not set(ends) <= set(h.edges) or not ends or ends[-1] != h.edges[-1]:
        return False
    places = [0, *(h.edges.index(end) for end in ends)]
    return all(
        low < high and sum(h.positives[low:high]) + sum(h.negatives[low:high])
        for low, high in pairwise(places)
    )
