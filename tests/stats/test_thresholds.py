"""The threshold of the largest sensitivity + specificity, against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from fedrad.exchange.histogram import CELLS, Histogram, grid_cells
from fedrad.stats import thresholds
from fedrad.stats.exact import Units


def youden(cells: np.ndarray, labels: np.ndarray, edge: int) -> float:
    called = cells >= edge
    return float(called[labels == 1].mean() + (~called)[labels == 0].mean() - 1)


@given(st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_no_cut_of_scikit_learns_roc_curve_has_a_larger_youden_index(seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], rng.integers(1, 80, 2)).astype(np.float32)
    raw = rng.normal(labels * rng.uniform(-1, 3), rng.uniform(0.2, 4))
    chosen = thresholds.choose_at_site(raw, Units(labels))
    cells = grid_cells(raw)
    false, true, _ = roc_curve(labels, cells)
    assert youden(cells, labels, chosen.threshold) == pytest.approx(float((true - false).max()))


def test_of_equally_good_thresholds_the_middle_one_is_taken():
    positives, negatives = np.zeros(CELLS), np.zeros(CELLS)
    negatives[10], positives[20] = 5, 5
    assert thresholds.youden_edge(positives, negatives) == 16, "11 to 20 are equally good"


def test_sites_choose_together_as_one_site_with_their_units_would():
    """With a bin for each cell that has units, nothing is lost by releasing a histogram."""
    rng = np.random.default_rng(1)
    labels = np.repeat([1, 0], [400, 600]).astype(np.float32)
    raw = rng.normal(1.5 * labels, 1.0)
    cells = grid_cells(raw)
    half = rng.random(1000) < 0.5

    def fine(own: np.ndarray) -> Histogram:
        return Histogram(
            edges=list(range(CELLS + 1)),
            positives=np.bincount(cells[own & (labels == 1)], minlength=CELLS).tolist(),
            negatives=np.bincount(cells[own & (labels == 0)], minlength=CELLS).tolist(),
        )

    together = thresholds.common_threshold([fine(half), fine(~half)])
    assert together == thresholds.choose_at_site(raw, Units(labels)).threshold
