"""The figures that a site computes exactly of all units of an outcome, each in one entry.

To add one, write its function here and its entry into one of the two lists, and a field of the same
name in `RankFigures` or `ProbabilityFigures` (`fedrad.exchange.figures`), which says what may leave
a site. From there it is in the release, `summary.json` and `cells.csv`; of probabilities it is a
column of the report's table too.
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
        From logits (n,) and their units to the figure; None where it does not exist. A figure of
        ranks gets raw logits of units of both classes, one of probabilities calibrated logits.
    heading
        Column in the report.
    digits
        Decimals shown in the report.
    over_sites
        Whether the mean over sites, weighted by their units, is the figure of all units together.
    note
        What the report says of it below its table, "" where the text above says it.
    """

    name: str
    compute: Callable[[Logits, Units], float | None]
    heading: str
    digits: int = 3
    over_sites: bool = False
    note: str = ""


def average_precision(logits: Logits, units: Units) -> float:
    """Area under precision over recall as a sum of steps; the chance level is the prevalence."""
    found = float(average_precision_score(units.labels, logits))
    return min(1.0, found)  # its sum of steps may round to a hair above


def brier(logits: Logits, units: Units) -> float:
    """Mean of (p - y)² (Brier 1950, Monthly Weather Review 78:1); 0 is perfect."""
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
    """All figures of the order of raw logits (n,); none without both classes."""
    return RankFigures.model_validate(
        {f.name: f.compute(raw, units) for f in RANK_FIGURES} if units.both else {}
    )


def probability_figures(calibrated: Logits, units: Units) -> ProbabilityFigures:
    """All figures of calibrated logits (n,)."""
    return ProbabilityFigures.model_validate(
        {f.name: f.compute(calibrated, units) for f in PROBABILITY_FIGURES}
    )


def means_over_sites(of_sites: Sequence[tuple[int, ProbabilityFigures]]) -> dict[str, float]:
    """The figures that add up over sites: name -> mean weighted by units. `of_sites`: units and
    figures of each site that gave any."""
    found = {}
    for figure in PROBABILITY_FIGURES:
        if figure.over_sites:
            values = [(n, v) for n, f in of_sites if (v := getattr(f, figure.name)) is not None]
            if counted := sum(n for n, _ in values):
                found[figure.name] = sum(n * v for n, v in values) / counted
    return found
