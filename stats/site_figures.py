"""The figures that a site computes exactly from all units of an outcome; each has one entry.

To add a figure, write its function here, add its entry to one of the two lists, and add a field of
the same name to `RankFigures` or `ProbabilityFigures` (`fedrad.exchange.figures`), which define
what may leave a site. It is then part of the release, `summary.json` and `cells.csv`; a figure of
probabilities is also a column of the report's table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from sklearn.metrics import average_precision_score

from fedrad.exchange.figures import ProbabilityFigures, RankFigures

from . import calibration
from .exact import Logits, Units


@dataclass(frozen=True)
class SiteFigure:
    """A figure of one model on a site's units.

    Parameters
    ----------
    name
        Field of `RankFigures` or `ProbabilityFigures`.
    compute
        Function of logits (n,) and their n units; returns None where the figure does not exist.
        A figure of ranks gets raw logits, and units of both classes; a figure of probabilities
        gets calibrated logits.
    heading
        Heading of its column in the report.
    digits
        Decimals shown in the report.
    over_sites
        Whether its mean over sites, weighted by their units, is the figure of all units together.
    note
        Note below the table of the report, if any.
    """

    name: str
    compute: Callable[[Logits, Units], float | None]
    heading: str
    digits: int = 3
    over_sites: bool = False
    note: str = ""


def average_precision(logits: Logits, units: Units) -> float:
    """Average precision: area under the precision-recall curve as a sum of steps; a random score
    has the prevalence."""
    area = float(average_precision_score(units.labels, logits))
    return min(1.0, area)  # the sum may be slightly above 1 by rounding


def brier(logits: Logits, units: Units) -> float:
    """Brier score: mean of (p - y)² (Brier 1950, Monthly Weather Review 78:1); 0 is perfect."""
    return float(np.mean((expit(logits) - units.labels) ** 2))


def calibration_intercept(logits: Logits, units: Units) -> float | None:
    """Calibration in the large (`calibration.shift`)."""
    y = units.labels.astype(float)
    return calibration.shift(logits, y, 1 - y)


def calibration_slope(logits: Logits, units: Units) -> float | None:
    """Calibration slope (`calibration.slope`)."""
    y = units.labels.astype(float)
    return calibration.slope(logits, y, 1 - y)


RANK_FIGURES = (SiteFigure("average_precision", average_precision, "Average precision"),)
PROBABILITY_FIGURES = (
    SiteFigure("brier", brier, "Brier score", over_sites=True),
    SiteFigure("intercept", calibration_intercept, "Intercept", digits=2),
    SiteFigure("slope", calibration_slope, "Slope", digits=2),
)


def rank_figures(raw: Logits, units: Units) -> RankFigures:
    """All figures of the ranks of raw logits (n,); all None without both classes."""
    return RankFigures.model_validate(
        {f.name: f.compute(raw, units) for f in RANK_FIGURES} if units.both else {}
    )


def probability_figures(calibrated: Logits, units: Units) -> ProbabilityFigures:
    """All figures of the probabilities of calibrated logits (n,)."""
    return ProbabilityFigures.model_validate(
        {f.name: f.compute(calibrated, units) for f in PROBABILITY_FIGURES}
    )


def means_over_sites(of_sites: Sequence[tuple[int, ProbabilityFigures]]) -> dict[str, float]:
    """Means over sites, weighted by units, of the figures for which they are meaningful: name ->
    mean. `of_sites`: number of units and figures of each site that released figures."""
    means = {}
    for figure in PROBABILITY_FIGURES:
        if figure.over_sites:
            values = [(n, v) for n, f in of_sites if (v := getattr(f, figure.name)) is not None]
            if counted := sum(n for n, _ in values):
                means[figure.name] = sum(n * v for n, v in values) / counted
    return means
