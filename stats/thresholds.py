"""What a site's own validation units choose for one model and outcome."""

from dataclasses import dataclass

import numpy as np

from fedrad.exchange.histogram import CELLS, cells_of
from fedrad.models.calibration import Calibration, fit

from .exact import Logits, Units


@dataclass(frozen=True)
class Choices:
    """A threshold, an edge of the grid of raw logits, and a calibration."""

    threshold: int
    calibration: Calibration


def choose(raw: Logits, units: Units) -> Choices:
    """The threshold of the largest sensitivity + specificity (Youden 1950) and the calibration of
    raw logits (n,). Both classes must be there."""
    positive, cells = units.positive, cells_of(raw)
    p = np.concatenate([[0], np.bincount(cells[positive], minlength=CELLS).cumsum()])
    n = np.concatenate([[0], np.bincount(cells[~positive], minlength=CELLS).cumsum()])
    gain = n / n[-1] - p / p[-1]
    best = np.flatnonzero(np.isclose(gain, gain.max()))
    calibration = fit(raw, positive.astype(float), (~positive).astype(float))
    return Choices(int(best[len(best) // 2]), calibration)
