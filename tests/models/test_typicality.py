"""An image unlike the known ones is detected, with a known rate of false alarms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.covariance import ledoit_wolf

from fedrad.models.typicality import FEWEST, LEVEL, Typicality


def normal(count: int, width: int, seed: int) -> np.ndarray:
    """Correlated features."""
    mixing = np.random.default_rng(0).normal(size=(width, width))
    return np.random.default_rng(seed).normal(size=(count, width)) @ mixing


def test_the_distance_is_that_of_mahalanobis():
    reference, held_out, new = normal(60, 5, 1), normal(25, 5, 2), normal(7, 5, 3)
    covariance, _ = ledoit_wolf(reference)
    centred = new - reference.mean(axis=0)
    expected = np.sqrt([x @ np.linalg.inv(covariance) @ x for x in centred])
    assert np.allclose(Typicality(reference, held_out).distances(new), expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), held=st.integers(FEWEST, 60))
def test_the_share_is_the_counted_one(seed, held):
    typicality = Typicality(normal(30, 4, seed), held_out := normal(held, 4, seed + 1))
    new = 1.5 * normal(9, 4, seed + 2)
    far = typicality.distances(held_out)
    expected = [(1 + (far >= d).sum()) / (held + 1) for d in typicality.distances(new)]
    assert np.allclose(typicality.p_values(new), expected)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_it_does_not_depend_on_origin_unit_or_rotation_of_the_features(seed, scale, shift):
    turn = ortho_group.rvs(6, random_state=seed)
    sets = [normal(n, 6, seed + k) for k, n in enumerate((40, 30, 10))]
    moved = [scale * x @ turn + shift for x in sets]
    plain = Typicality(sets[0], sets[1]).p_values(sets[2])
    assert np.allclose(Typicality(moved[0], moved[1]).p_values(moved[2]), plain, atol=1 / 31 + 1e-9)


def test_of_images_of_the_same_kind_at_most_one_in_twenty_is_called_unlike():
    rng = np.random.default_rng(5)
    rates = []
    for _ in range(300):  # heavy tails: validity asks for no normal distribution
        data = rng.standard_t(2, size=(90, 3))
        rates.append((Typicality(data[:30], data[30:60]).p_values(data[60:]) <= LEVEL).mean())
    error = np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) <= LEVEL + 3 * error


def test_with_more_features_than_images_a_distant_image_is_still_recognised():
    typicality = Typicality(normal(20, 200, 1), normal(20, 200, 2))
    assert (typicality.p_values(normal(20, 200, 3)) > LEVEL).mean() > 0.8
    assert typicality.p_values(normal(5, 200, 4) * 5) == pytest.approx(1 / 21)


def test_features_that_never_vary_make_nothing_unlike():
    assert Typicality(np.ones((20, 3)), np.ones((20, 3))).p_values(np.ones((2, 3))).tolist() == [
        1,
        1,
    ]


@pytest.mark.parametrize(("reference", "held_out"), [(19, 50), (50, 19), (0, 0)])
def test_too_few_images_are_refused(reference, held_out):
    with pytest.raises(ValueError, match="at least 20 of each"):
        Typicality(np.zeros((reference, 2)), np.zeros((held_out, 2)))
