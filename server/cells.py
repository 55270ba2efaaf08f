"""From what one site released of one model to the figures shown of it."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from fedrad.exchange.figures import Missing, Operating, Scores
from fedrad.exchange.histogram import GRID, Histogram

from .results import Cell, CurvePoint, NetBenefitPoint
from .statistics.auroc import pair_auroc, site_estimate
from .statistics.decisions import Confusion, NetBenefit, confusion, net_benefit
from .statistics.intervals import wilson

BENEFIT_THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Threshold probabilities for net benefit: 0.05 to 0.95."""


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
    h = scores.histogram
    if scores.histogram_missing is not None:
        withheld = dict.fromkeys(("sensitivity", "site_threshold"), scores.histogram_missing)
        return found.model_copy(update={"withheld": withheld})
    if h is None or not total:
        return found
    return found.model_copy(
        update=_decisions(scores, h, operating, confidence, clustered=clustered)
        | _probabilities(scores, h)
        | {"net_benefit": _benefit(h, operating), "roc": _roc(h)}
    )


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


def _probabilities(scores: Scores, h: Histogram) -> dict[str, object]:
    p = scores.probabilities
    if p is None:
        return {}
    curve = curve_points(scores, h)
    total = sum(point.units for point in curve)
    gaps = sum(point.units * abs(point.observed - point.probability) for point in curve)
    return {
        "calibrated_by": p.by,
        "brier": p.brier,
        "site_brier": scores.site_brier,
        "calibration_intercept": p.intercept,
        "calibration_slope": p.slope,
        "ece": gaps / total,
        "calibration_curve": curve,
    }


def curve_points(scores: Scores, h: Histogram) -> list[CurvePoint]:
    """The calibration curve: probabilities as the site sent them, shares from the histogram."""
    if scores.probabilities is None:
        return []
    points, start = [], 0
    for b in scores.probabilities.curve:
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


def _benefit(h: Histogram, operating: Operating | None) -> list[NetBenefitPoint]:
    if operating is None or operating.calibration is None:
        return []
    return points_of(net_benefit(h, operating.calibration, BENEFIT_THRESHOLDS))


def points_of(found: Sequence[NetBenefit]) -> list[NetBenefitPoint]:
    """Net benefits as the summary has them."""
    return [
        NetBenefitPoint(threshold=b.threshold, value=b.value, bound=b.bound, treat_all=b.treat_all)
        for b in found
    ]


def fault(scores: Scores) -> str | None:
    """What contradicts itself in a site's figures; None where nothing does.

    Counts must be the histogram's; an exact AUROC must lie within the certified bound of its own
    histogram; a curve's bins must be unions of the histogram's, none empty.
    """
    h = scores.histogram
    if h is None:
        return None
    why = None
    counts = (max(0, h.total_positives), max(0, h.total_negatives))
    if h.noisy != (scores.epsilon is not None):
        why = "noise is claimed for exact counts, or not claimed"
    elif counts != (scores.positives, scores.negatives):
        why = "counts are not those of the histogram"
    elif scores.auroc is not None and not _possible(scores.auroc, h):
        why = "AUROC is not possible with this histogram"
    elif scores.probabilities and not _is_curve_of(h, [b.end for b in scores.probabilities.curve]):
        why = "the calibration curve is not of this histogram"
    return f"{scores.model}, {scores.outcome}: {why}" if why else None


def _possible(auroc: float, h: Histogram) -> bool:
    if not h.total_positives or not h.total_negatives:
        return False
    value, bound = pair_auroc(h, h)
    return abs(value - auroc) <= bound + 1e-9


def _is_curve_of(h: Histogram, ends: Sequence[int]) -> bool:
    if not set(ends) <= set(h.edges) or not ends or ends[-1] != h.edges[-1]:
        return False
    places = [0, *(h.edges.index(end) for end in ends)]
    return all(
        low < high and sum(h.positives[low:high]) + sum(h.negatives[low:high])
        for low, high in pairwise(places)
    )
