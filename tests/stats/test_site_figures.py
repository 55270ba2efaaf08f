"""Each figure that a site computes exactly, against scikit-learn or a closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from fedrad.exchange.figures import CalibrationLine, RankFigures, Scores
from fedrad.exchange.histogram import CELLS, GRID, Histogram, grid_cells
from fedrad.stats import calibration, site_figures
from fedrad.stats.exact import Units, auroc, auroc_variance, deviations, variance_over_folds
from fedrad.stats.intervals import large_sample_interval, logit_interval, newcombe_interval, z_of
from fedrad.stats.prevalence import site_only


def drawn(seed: int, positives: int = 40, negatives: int = 90):
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [positives, negatives]).astype(np.float32)
    return rng.normal(-0.7 + 1.3 * labels, 1.1), Units(labels)


def slope_of(z: np.ndarray, y: np.ndarray) -> float:
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12, max_iter=500)
    return float(model.fit(z[:, None], y).coef_[0, 0])


REFERENCES = {
    "average_precision": lambda z, y: average_precision_score(y, z),
    "brier": lambda z, y: brier_score_loss(y, expit(z)),
    "slope": slope_of,
}
"""Figure -> the same by scikit-learn."""
CLOSED_FORMS = {"intercept"}
"""Figures that other tests compare with their definition."""


@pytest.mark.parametrize(
    "figure", [*site_figures.RANK_FIGURES, *site_figures.PROBABILITY_FIGURES], ids=lambda f: f.name
)
def test_every_figure_has_a_reference_and_is_it(figure):
    if figure.name in CLOSED_FORMS:
        return
    for seed in range(5):
        z, units = drawn(seed)
        expected = REFERENCES[figure.name](z, units.labels)
        assert figure.compute(z, units) == pytest.approx(expected, rel=1e-6)


@given(st.floats(-5, 5), st.integers(1, 30), st.integers(1, 30))
@settings(deadline=None)
def test_the_shift_of_equal_logits_leads_to_the_logit_of_the_prevalence(z, positives, negatives):
    """Where all logits are the same the maximum has a closed form: logit(prevalence) - z."""
    labels = np.repeat([1, 0], [positives, negatives]).astype(np.float32)
    shift = site_figures.calibration_intercept(np.full(len(labels), z), Units(labels))
    assert shift == pytest.approx(logit(positives / (positives + negatives)) - z, abs=1e-6)


def test_the_shift_makes_the_mean_probability_the_prevalence():
    z, units = drawn(3)
    shift = site_figures.calibration_intercept(z, units)
    assert shift is not None
    assert expit(z + shift).mean() == pytest.approx(40 / 130, abs=1e-9)


def test_of_single_units_and_of_bins_that_hold_them_the_calibration_is_the_same():
    """If all units of each bin have the logit that represents it, both are the same."""
    middles = (GRID[:-1] + GRID[1:]) / 2
    rng = np.random.default_rng(2)
    cells = rng.integers(40, 90, 300)
    z, labels = middles[cells], (rng.random(300) < 0.4).astype(np.float32)
    assert (grid_cells(z) == cells).all()
    histogram = Histogram(
        edges=list(range(CELLS + 1)),
        positives=np.bincount(cells[labels == 1], minlength=CELLS).tolist(),
        negatives=np.bincount(cells[labels == 0], minlength=CELLS).tolist(),
    )
    line, units = CalibrationLine(intercept=-0.3, slope=0.8), Units(labels)
    mapped = line.intercept + line.slope * z
    shift, slope = calibration.shift_and_slope([histogram], line)
    assert shift == pytest.approx(site_figures.calibration_intercept(mapped, units), abs=1e-8)
    assert slope == pytest.approx(site_figures.calibration_slope(mapped, units), rel=1e-6)


def test_without_both_classes_there_are_no_figures_of_ranks_or_calibration():
    z, units = drawn(4, positives=20, negatives=0)
    assert site_figures.rank_figures(z, units) == RankFigures()
    figures = site_figures.probability_figures(z, units)
    assert (figures.intercept, figures.slope) == (None, None)
    assert figures.brier == pytest.approx(brier_score_loss(units.labels, expit(z), labels=[0, 1]))


def test_means_over_sites_are_the_figures_of_all_units():
    parts = [drawn(seed, 10 * seed + 5, 30) for seed in range(3)]
    means = site_figures.means_over_sites(
        [(len(z), site_figures.probability_figures(z, units)) for z, units in parts]
    )
    z, y = np.concatenate([z for z, _ in parts]), np.concatenate([u.labels for _, u in parts])
    assert means["brier"] == pytest.approx(brier_score_loss(y, expit(z)))
    assert means.keys().isdisjoint({"intercept", "slope"}), "they are not means over units"
    assert site_figures.means_over_sites([]) == {}


# AUROC and intervals


def test_ties_count_half_as_in_scikit_learn():
    z, units = drawn(5)
    z = np.round(z)
    assert auroc(z, units) == roc_auc_score(units.labels, z)
    assert deviations(z, units)[units.positive].mean() == pytest.approx(0, abs=1e-12)


def test_over_one_fold_the_variance_of_the_mean_is_delongs():
    z, units = drawn(6)
    alone = Units(units.labels, np.arange(len(z)))
    variance = variance_over_folds([deviations(z, alone)], [alone])
    assert variance == pytest.approx(auroc_variance(z, units))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_large_sample_interval_is_symmetric_on_the_logit_scale(confidence):
    a, variance = 0.83, 0.0016
    low, high = logit(large_sample_interval(a, variance, confidence))
    half = norm.ppf(0.5 + confidence / 2) * np.sqrt(variance) / (a * (1 - a))
    assert (low, high) == pytest.approx((logit(a) - half, logit(a) + half))
    assert logit_interval(a, variance, 50, 60, confidence) == large_sample_interval(
        a, variance, confidence
    )


@given(st.floats(0.02, 0.98), st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None)
def test_newcombes_limits_solve_his_equation(a, positives, negatives):
    """|auroc - A| = z·√V(A) with the variance of method 5 (Newcombe 2006, eq. for method 5)."""
    mean = (positives + negatives) / 2 - 1
    for limit in newcombe_interval(a, positives, negatives, 0.95):
        q = 1 + mean * (1 - limit) / (2 - limit) + mean * limit / (1 + limit)
        variance = limit * (1 - limit) * q / (positives * negatives)
        assert abs(a - limit) == pytest.approx(z_of(0.95) * np.sqrt(variance), abs=1e-6)


def test_the_site_only_interval_is_delongs_of_the_prevalences_as_scores():
    counts = [(10, 40), (25, 30), (30, 12)]
    cells = [Scores(model="global", outcome="y", positives=p, negatives=n) for p, n in counts]
    scores = np.concatenate([np.full(p + n, p / (p + n)) for p, n in counts])
    labels = np.concatenate([np.repeat([1, 0], [p, n]) for p, n in counts]).astype(np.float32)
    estimate = site_only(cells, 0.95)
    assert estimate is not None
    assert estimate.value == pytest.approx(roc_auc_score(labels, scores))
    variance = auroc_variance(scores, Units(labels))
    assert estimate.interval == pytest.approx(
        logit_interval(estimate.value, variance, 65, 82, 0.95)
    )
