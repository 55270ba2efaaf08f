"""Calibrated probabilities are right for a stated prevalence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from fedrad.exchange.histogram import Histogram, count_in_bins
from fedrad.models.calibration import Calibration, fit, undo_prior
from fedrad.stats.calibration import bin_logits, calibrate


def scores(units: int, *, intercept: float = -1.2, slope: float = 0.6, seed: int = 0):
    """Raw logits whose true calibration is known, and their labels."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.5, 2.0, units)
    return z, (rng.random(units) < expit(intercept + slope * z)).astype(float)


def reference(z, y, weights=None) -> tuple[float, float]:
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000)
    model.fit(np.reshape(z, (-1, 1)), y, sample_weight=weights)
    return float(model.intercept_[0]), float(model.coef_[0, 0])


@pytest.mark.parametrize("units", [60, 400, 5000])
def test_on_raw_scores_it_is_logistic_regression(units):
    z, y = scores(units)
    fitted = fit(z, y, 1 - y)
    assert fitted.method == "fitted"
    assert (fitted.intercept, fitted.slope) == pytest.approx(reference(z, y), abs=1e-5)
    assert fitted.prevalence == y.mean()
    # The mean probability is the prevalence, as at any maximum with a free intercept.
    assert fitted.probabilities(z).mean() == pytest.approx(y.mean(), abs=1e-6)


def test_binned_units_are_weighted_logistic_regression():
    rng = np.random.default_rng(1)
    z = np.linspace(-3, 3, 12)
    positives = rng.binomial(20, expit(0.8 * z - 0.3))
    negatives = 20 - positives
    fitted = fit(z, positives, negatives)
    expected = reference(
        np.tile(z, 2), np.repeat([1, 0], 12), np.concatenate([positives, negatives])
    )
    assert (fitted.intercept, fitted.slope) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("units", "sites", "tolerance"), [(4000, 4, 0.05), (240, 3, 0.15)])
def test_from_released_histograms_it_is_that_of_the_raw_scores(units, sites, tolerance):
    z, y = scores(units, seed=2)
    parts = np.array_split(np.arange(units), sites)
    fitted = calibrate([count_in_bins(z[p], y[p], minimum_bin=3) for p in parts])
    assert fitted is not None
    assert (fitted.positives, fitted.negatives) == (y.sum(), (1 - y).sum())
    intercept, slope = reference(z, y)
    assert fitted.intercept == pytest.approx(intercept, abs=tolerance)
    assert fitted.slope == pytest.approx(slope, rel=tolerance)


def test_balanced_training_is_undone():
    """Scores that are right for one half are right for the true prevalence afterwards."""
    rng = np.random.default_rng(3)
    y = (rng.random(200_000) < 0.1).astype(float)
    z = rng.normal(2 * y - 1, 1.0)  # two normals one apart: the balanced logit is 2z
    raw = 2 * z
    prior = undo_prior(int(y.sum()), int((1 - y).sum()), "a test")
    assert prior.slope == 1.0
    assert prior.intercept == pytest.approx(logit(y.mean()))
    fitted = fit(raw, y, 1 - y)
    assert fitted.intercept == pytest.approx(prior.intercept, abs=0.05)
    assert fitted.slope == pytest.approx(1.0, abs=0.02)


@given(st.floats(-4, 4), st.floats(0.05, 5), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_moving_to_another_prevalence_moves_the_odds_by_those_of_the_priors(a, b, here, there):
    own = Calibration(
        intercept=a, slope=b, prevalence=here, method="fitted", positives=10, negatives=10
    )
    z = np.linspace(-3, 3, 5)
    moved = own.at_prevalence(there)
    ratio = (there / (1 - there)) / (here / (1 - here))
    odds = np.exp(own.logits(z)) * ratio
    assert moved.probabilities(z) == pytest.approx(odds / (1 + odds), rel=1e-6)
    assert moved.prevalence == there
    assert moved.at_prevalence(here).intercept == pytest.approx(a, abs=1e-9)
    assert (np.diff(moved.logits(z)) > 0).all(), "ranks stay"


def test_moved_to_the_prevalence_of_other_patients_it_fits_them():
    rng = np.random.default_rng(4)

    def cohort(prevalence):
        y = (rng.random(100_000) < prevalence).astype(float)
        return rng.normal(1.4 * y, 1.0), y

    z, y = cohort(0.3)
    moved = fit(z, y, 1 - y).at_prevalence(0.05)
    z, y = cohort(0.05)
    assert moved.probabilities(z).mean() == pytest.approx(y.mean(), rel=0.05)


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 1.1])
def test_a_prevalence_outside_its_range_is_refused(prevalence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        undo_prior(10, 20, "").at_prevalence(prevalence)


# If no fit is possible, only the prior is corrected, and a reason is given


@pytest.mark.parametrize(
    ("z", "y", "why"),
    [
        (np.arange(18.0), np.arange(18) % 2, "fewer than 10 validation units"),
        (np.arange(40.0), np.arange(40) >= 20, "separated"),
        (np.arange(40.0), np.arange(40) < 20, "separated"),
        (np.arange(40.0), (np.arange(40) < 20) ^ (np.arange(40) % 7 == 0), "not positive"),
        (np.zeros(40), np.arange(40) % 2, "separated"),  # all scores are the same
    ],
)
def test_if_no_fit_exists_only_the_prior_is_corrected(z, y, why):
    y = np.asarray(y, float)
    calibration = fit(z, y, 1 - y)
    assert (calibration.method, calibration.slope) == ("prior", 1.0)
    assert calibration.why is not None
    assert why in calibration.why
    assert calibration.probabilities(0.0) == pytest.approx(y.mean())


def test_extreme_scores_do_not_break_the_fit():
    z, y = scores(500, seed=5)
    huge = fit(1e4 * z, y, 1 - y)
    assert huge.slope == pytest.approx(fit(z, y, 1 - y).slope / 1e4, rel=1e-4)


def test_a_class_without_units_has_no_prevalence_to_mean():
    z = np.linspace(-1, 1, 30)
    with pytest.raises(ValueError, match="both classes"):
        fit(z, np.ones(30), np.zeros(30))
    assert calibrate([count_in_bins(z, np.ones(30), minimum_bin=3)]) is None
    assert calibrate([]) is None


def test_histograms_too_coarse_to_place_leave_the_prior():
    two = Histogram(edges=[0, 64, 128], positives=[5, 15], negatives=[20, 5])
    assert bin_logits(two) is None
    calibration = calibrate([two])
    assert calibration is not None
    assert (calibration.method, calibration.positives, calibration.negatives) == ("prior", 20, 25)


def test_an_outermost_bin_is_as_wide_as_its_neighbour():
    z = bin_logits(Histogram(edges=[0, 60, 64, 70, 128], positives=[1] * 4, negatives=[1] * 4))
    assert z is not None
    assert z[1] - z[0] < 0.5
    assert abs(z).max() < 1
