"""A released histogram holds numbers of units in bins of a public grid, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedrad.exchange.histogram import CELLS, GRID, LIMIT, Histogram, count_in_bins

logits = st.lists(
    st.floats(-100, 100) | st.sampled_from([-30.0, 0.0, 30.0]), min_size=1, max_size=200
)


@given(logits, st.integers(0, 2**31), st.integers(1, 9))
def test_every_unit_is_counted_once_and_none_stands_alone(scores, seed, minimum):
    labels = np.random.default_rng(seed).integers(0, 2, len(scores))
    h = count_in_bins(scores, labels, minimum_bin=minimum)
    assert h.total_positives == labels.sum()
    assert h.total_negatives == len(labels) - labels.sum()
    if len(scores) >= minimum:
        assert min(p + n for p, n in zip(h.positives, h.negatives, strict=True)) >= minimum


@given(logits)
@settings(max_examples=50)
def test_a_unit_lies_in_the_bin_that_covers_its_clipped_score(scores):
    h = count_in_bins(scores, np.ones(len(scores)), minimum_bin=1)
    clipped = np.clip(scores, -LIMIT, LIMIT)
    for low, high, n in zip(h.edges[:-1], h.edges[1:], h.positives, strict=True):
        inside = (clipped >= GRID[low]) & (clipped < GRID[high])
        if high == CELLS:
            inside |= clipped == GRID[CELLS]
        assert n == inside.sum()


def test_the_grid_is_symmetric_and_finest_around_zero():
    np.testing.assert_allclose(GRID, -GRID[::-1], atol=1e-12)
    widths = np.diff(GRID)
    assert widths.argmin() in (CELLS // 2 - 1, CELLS // 2)
    assert widths.min() == pytest.approx(0.064, abs=0.001)


@pytest.mark.parametrize(
    ("edges", "positives", "negatives"),
    [
        ([0, 3], [1], [1]),
        ([0, 5, 5, CELLS], [1] * 3, [1] * 3),
        ([0, CELLS], [-1], [1]),
        ([0, CELLS], [1, 2], [1]),
    ],
)
def test_an_invalid_histogram_is_refused(edges, positives, negatives):
    with pytest.raises(ValidationError):
        Histogram(edges=edges, positives=positives, negatives=negatives)
