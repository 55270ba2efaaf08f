import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from fedrad.models.progression.measures import (
    gain_towards_later,
    kendall_trends,
    kernel_inception_distance,
    monotone_share,
)

rng = np.random.default_rng(0)


def test_only_a_trajectory_that_always_rises_is_monotone():
    values = np.array([[0, 1, 2, 3], [0, 1, 1, 3], [0, 2, 1, 3], [3, 2, 1, 0]])
    assert monotone_share(values) == 0.25


def test_the_trend_is_scipys():
    values = rng.normal(size=(5, 8))
    expected = [kendalltau(np.arange(8), row).statistic for row in values]
    np.testing.assert_allclose(kendall_trends(values), expected)
    np.testing.assert_allclose(
        kendall_trends(np.array([[1, 2, 3], [3, 2, 1], [1, 1, 1]])), [1, -1, 0]
    )


@given(n=st.integers(2, 6), m=st.integers(2, 6), seed=st.integers(0, 50))
def test_the_kernel_distance_is_the_sum_over_all_pairs(n, m, seed):
    draws = np.random.default_rng(seed)
    x, y = draws.normal(size=(n, 4)), draws.normal(0.5, 2, size=(m, 4))

    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 4 + 1) ** 3

    same = [
        sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j)
        / (len(s) * (len(s) - 1))
        for s in (x, y)
    ]
    across = sum(k(a, b) for a in x for b in y) / (n * m)
    np.testing.assert_allclose(kernel_inception_distance(x, y), sum(same) - 2 * across, atol=1e-9)


def test_the_kernel_distance_is_zero_on_average_for_one_distribution():
    estimates = [
        kernel_inception_distance(rng.normal(size=(20, 6)), rng.normal(size=(30, 6)))
        for _ in range(400)
    ]
    assert abs(np.mean(estimates)) < 4 * np.std(estimates) / 20
    assert kernel_inception_distance(rng.normal(size=(50, 6)), rng.normal(1, 1, size=(50, 6))) > 0.3


def test_a_distance_of_one_image_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        kernel_inception_distance(np.zeros((1, 3)), np.zeros((5, 3)))


def test_an_edit_half_way_to_the_later_image_is_nearer_and_one_away_from_it_is_not():
    still, later = rng.normal(size=(2, 3, 8, 8))
    away = still - later
    lengths = np.sqrt(((still - later) ** 2).mean(axis=(1, 2)))
    np.testing.assert_allclose(gain_towards_later((still + later) / 2, still, later), lengths / 2)
    np.testing.assert_allclose(gain_towards_later(still, still, later), 0)
    assert (gain_towards_later(still + away, still, later) < 0).all()
