"""Figures over sites, against scikit-learn, closed forms and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_federations import SiteScores, errors, federation, figures, normals, release
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fedrad.client.figures.disclosure import Disclosure
from fedrad.exchange.figures import CalibrationLine, RankFigures, Scores
from fedrad.exchange.histogram import GRID, Histogram, count_in_bins
from fedrad.stats import auroc as a
from fedrad.stats import thresholds
from fedrad.stats.decisions import confusion, net_benefit
from fedrad.stats.differences import difference, holm, weighted_difference
from fedrad.stats.exact import Units, auroc_variance
from fedrad.stats.intervals import hanley_mcneil, logit_interval, newcombe_interval, wilson
from fedrad.stats.new_site import meta_analysis, new_site
from fedrad.stats.noise import from_noisy
from fedrad.stats.prevalence import site_only, within_share

OPEN = Disclosure(minimum_units=1, minimum_bin=3)


def scores_of(data: dict[str, SiteScores], rule: Disclosure = OPEN) -> list[Scores]:
    return [release(site, own, rule).scores[0] for site, own in data.items()]


# All figures of random federations


def test_random_federations_hold_every_kind_of_site_that_they_promise():
    federations = [federation(seed, largest=200) for seed in range(40)]
    sites = [own for data in federations for own in data.values()]
    assert {len(data) for data in federations} <= set(range(1, 31))
    assert all(5 <= len(own.labels) <= 200 for own in sites)
    assert all(own.logits.shape == own.labels.shape for own in sites)
    assert all(np.isin(own.labels, (0, 1)).all() for own in sites)
    one_class = [own for own in sites if len(np.unique(own.labels)) == 1]
    assert 0.1 < len(one_class) / len(sites) < 0.4
    assert {own.labels[0] for own in one_class} == {0, 1}
    ties = [own for own in sites if (own.logits == np.round(own.logits)).all()]
    saturated = [own for own in sites if np.isin(np.abs(own.logits).max(), 100)]
    assert min(len(ties), len(saturated)) > 0.1 * len(sites)
    assert all(own.patients is None for own in sites)
    again, other = (federation(seed, largest=200)["s00"].logits for seed in (0, 1))
    np.testing.assert_array_equal(again, federations[0]["s00"].logits)
    assert not np.array_equal(again, other)
    (clustered,) = federation(3, sites=1, clustered=True).values()
    assert clustered.patients is not None
    assert len(np.unique(clustered.patients)) < len(clustered.patients)


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_every_figure_is_the_references_or_within_its_printed_bound(seed):
    for figure, error, bound in errors(federation(seed, largest=200)):
        assert error <= bound + (1e-5 if "calibration" in figure else 1e-9), figure


def test_a_site_with_one_class_adds_to_the_pooled_auroc_but_has_none_of_its_own():
    rng = np.random.default_rng(2)
    data = {name: normals(rng, 20, 30, 0.8) for name in "ab"}
    lone = {**data, "one": SiteScores(rng.normal(1, 1, 25), np.ones(25, np.float32))}
    cells, whole = figures(lone, OPEN)
    _, without = figures(data, OPEN)
    assert (cells["one"].auroc, cells["one"].missing) == (None, "one class")
    assert (whole.within, whole.within_ci) == (without.within, without.within_ci)
    assert whole.pooled != without.pooled
    assert cells["one"].probabilities.brier is not None


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_pooled_is_the_pair_weighted_mean_of_the_auc_table(seed):
    data = federation(seed, 4, largest=100)
    _, whole = figures(data, OPEN)
    if whole.pooled is None:
        return
    p = {site: own.labels.sum() for site, own in data.items()}
    n = {site: len(own.labels) - p[site] for site, own in data.items()}
    total = sum(p.values()) * sum(n.values())
    parts = [p[x.positives_of] * n[x.negatives_of] * x.auroc / total for x in whole.pairs]
    assert whole.pooled == pytest.approx(sum(parts))


# Intervals


def test_delong_variance_equals_the_brute_force_one():
    own = federation(4, 1, largest=200)["s00"]
    labels = own.labels.copy()
    labels[:5], labels[5:10] = 0, 1
    z = np.round(own.logits)
    kernel = (z[labels == 1][:, None] > z[labels == 0]) + 0.5 * (
        z[labels == 1][:, None] == z[labels == 0]
    )
    P, N = kernel.shape
    expected = kernel.mean(1).var(ddof=1) / P + kernel.mean(0).var(ddof=1) / N
    assert auroc_variance(z, Units(labels)) == pytest.approx(expected)


def test_with_fine_bins_the_pooled_interval_and_the_histograms_variance_are_delongs():
    own = normals(np.random.default_rng(5), 1600, 2400, 0.8)
    histogram = count_in_bins(own.logits * 3, own.labels, minimum_bin=1)
    whole = a.pooled_auroc([histogram], 0.95)
    assert whole is not None
    variance = auroc_variance(own.logits, Units(own.labels))
    low, high = logit_interval(
        float(roc_auc_score(own.labels, own.logits)), variance, 1600, 2400, 0.95
    )
    assert whole.interval[0] + whole.bound == pytest.approx(low, abs=2e-3)
    assert whole.interval[1] - whole.bound == pytest.approx(high, abs=2e-3)
    assert a.histogram_variance(histogram) == pytest.approx(variance, rel=0.01)


def test_images_of_one_patient_widen_the_pooled_interval_as_they_do_within_sites():
    rng = np.random.default_rng(8)
    data = {}
    for name in "abc":
        ill, patients = rng.random(60) < 0.4, np.repeat(np.arange(60), 4)
        logits = rng.normal(size=60)[patients] + 0.1 * rng.normal(size=240) + ill[patients]
        data[name] = SiteScores(logits, ill[patients].astype(np.float32), patients)
    _, clustered = figures(data, OPEN)
    _, alone = figures({k: SiteScores(d.logits, d.labels) for k, d in data.items()}, OPEN)
    assert clustered.design_effect == pytest.approx(4, rel=0.2), (
        "four images hold as much information as one"
    )
    assert clustered.pooled == pytest.approx(alone.pooled, abs=clustered.bound)
    assert clustered.pooled_ci is not None
    assert alone.pooled_ci is not None
    widths = [high - low for low, high in (clustered.pooled_ci, alone.pooled_ci)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.15)
    assert clustered.decisions.sensitivity_ci is None, "Wilson's interval knows no clusters"


def test_perfect_separation_has_an_interval_with_a_width():
    low, high = logit_interval(1.0, 0.0, 12, 12, 0.95)
    assert 0.8 < low < 0.9
    assert high == 1
    assert logit_interval(0.0, 0.0, 12, 12, 0.95) == pytest.approx((0, 1 - low))


def test_newcombes_interval_is_near_delongs_where_both_hold():
    own = normals(np.random.default_rng(7), 40, 60, 0.75)
    auroc = float(roc_auc_score(own.labels, own.logits))
    variance = auroc_variance(own.logits, Units(own.labels))
    assert newcombe_interval(auroc, 40, 60, 0.95) == pytest.approx(
        logit_interval(auroc, variance, 40, 60, 0.95), abs=0.03
    )


def test_hanley_and_mcneil_gives_their_published_standard_error():
    # Hanley & McNeil 1982: 51 abnormal, 58 normal, AUROC 0.893, standard error 0.032.
    assert hanley_mcneil(0.893, 51, 58) ** 0.5 == pytest.approx(0.032, abs=0.001)


def test_wilsons_interval_is_the_published_one():
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263, 15 of 148, 0 of 20.
    assert wilson(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148, 0.95) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20, 0.95) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0, 0.95) is None


def test_the_interval_of_the_lowest_site_allows_for_its_selection():
    rng = np.random.default_rng(9)
    truth, plain, known = 0.75, 0, 0
    for _ in range(200):
        cells = scores_of({f"s{i}": normals(rng, 25, 35, truth) for i in range(8)})
        named = {f"s{i}": c for i, c in enumerate(cells)}
        worst = a.lowest_site(named, 0.95)
        assert worst is not None
        assert worst.value == min(c.auroc for c in cells)
        own = a.site_estimate(named[worst.site], 0.95)
        assert own is not None
        plain += own.interval[0] <= truth <= own.interval[1]
        known += worst.interval[0] <= truth <= worst.interval[1]
    assert plain / 200 < 0.9, "its own interval is too low"
    assert known / 200 > 0.94


def test_site_only_and_share_of_pairs_have_intervals_around_them():
    cells = scores_of(federation(3, 6, largest=300))
    for figure in (site_only(cells, 0.95), within_share(cells, 0.95)):
        assert figure is not None
        assert figure.interval[0] < figure.value < figure.interval[1]
    lone = scores_of(federation(0, 1, largest=300))
    assert within_share(lone, 0.95) is None or within_share(lone, 0.95).interval == (1.0, 1.0)


# A new site


def test_the_meta_analysis_is_that_of_the_bcg_trials():
    """Colditz et al. 1994, log odds ratios of 13 trials: Paule-Mandel τ² 0.3181 and mean -0.7150 in
    Viechtbauer's metafor (dat.bcg)."""
    tpos = np.array([4, 6, 3, 62, 33, 180, 8, 505, 29, 17, 186, 5, 27])
    tneg = np.array([119, 300, 228, 13536, 5036, 1361, 2537, 87886, 7470, 1699, 50448, 2493, 16886])
    cpos = np.array([11, 29, 11, 248, 47, 372, 10, 499, 45, 65, 141, 3, 29])
    cneg = np.array([128, 274, 209, 12619, 5761, 1079, 619, 87892, 7232, 1600, 27197, 2338, 17825])
    risk, control = tpos / (tpos + tneg), cpos / (cpos + cneg)
    y = np.log(risk / control)
    v = 1 / tpos - 1 / (tpos + tneg) + 1 / cpos - 1 / (cpos + cneg)
    result = meta_analysis(y, v, 0.95)
    assert result.tau**2 == pytest.approx(0.3181, abs=2e-4)
    assert np.log(result.mean / (1 - result.mean)) == pytest.approx(-0.7150, abs=2e-4)


def test_a_prediction_needs_four_sites_and_is_wider_than_the_interval_of_the_mean():
    rng = np.random.default_rng(10)
    cells = scores_of({f"s{i}": normals(rng, 40, 60, 0.6 + 0.07 * i) for i in range(5)})
    assert new_site(cells[:3], 0.95) is None
    predicted = new_site(cells, 0.95)
    assert predicted is not None
    assert predicted.prediction[0] < predicted.interval[0] < predicted.mean
    assert predicted.mean < predicted.interval[1] < predicted.prediction[1]


def test_a_perfect_site_does_not_break_the_meta_analysis():
    rng = np.random.default_rng(11)
    data = {f"s{i}": normals(rng, 20, 20, 0.8) for i in range(3)}
    labels = np.repeat([0, 1], 12).astype(np.float32)
    predicted = new_site(scores_of({**data, "perfect": SiteScores(labels * 9.0, labels)}), 0.95)
    assert predicted is not None
    assert 0.6 < predicted.mean < 1


# Thresholds and what is decided at them


def test_the_threshold_lies_between_two_separate_classes():
    labels = np.repeat([0.0, 1.0], 100)
    logits = np.concatenate([np.linspace(-3, -0.5, 100), np.linspace(0.5, 3, 100)])
    threshold = thresholds.common_threshold([count_in_bins(logits, labels, minimum_bin=3)])
    assert threshold is not None
    assert -0.6 <= GRID[threshold] <= 0.6
    assert (
        thresholds.common_threshold([count_in_bins(logits[:100], labels[:100], minimum_bin=3)])
        is None
    )


def test_a_threshold_inside_a_bin_gives_no_counts_but_bounds_of_the_benefit():
    histogram = Histogram(edges=[0, 60, 80, 128], positives=[1, 4, 5], negatives=[9, 4, 1])
    assert confusion(histogram, 70) is None
    at = confusion(histogram, 80)
    assert at is not None
    assert (at.true_positives, at.false_positives, at.true_negatives) == (5, 1, 13)
    [benefit] = net_benefit(histogram, CalibrationLine(intercept=0.0, slope=1.0), [0.5])
    # Between all four positives and none of the negatives above 0.5, and the other way round.
    assert benefit.value + benefit.bound == pytest.approx((9 - 1) / 24)
    assert benefit.value - benefit.bound == pytest.approx((5 - 5) / 24)


# Differences


def test_holms_p_values_are_the_textbooks():
    # Holm 1979 as in R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, None, 0.06, 0.02], nan_ok=True
    )


def test_a_difference_without_variance_has_no_p():
    assert difference(0.0, 0.0, 0.95).p is None
    assert weighted_difference([0.1], [0.01], [0], 0.95) is None
    mean = weighted_difference([0.1, 0.3], [0.01, 0.01], [3, 1], 0.95)
    assert mean is not None
    assert mean.value == pytest.approx(0.15)
    assert mean.p == pytest.approx(2 * norm.sf(0.15 / np.sqrt(0.01 * 10 / 16)))


# Noise


def test_the_interval_of_an_auroc_from_noisy_histograms_covers_the_noise():
    rng = np.random.default_rng(12)
    own = normals(rng, 60, 80, 0.8)
    exact, hits = auroc_variance(own.logits, Units(own.labels)), 0
    for secret in range(100):
        rule = Disclosure(1, 3, epsilon=1.0, secret=bytes([secret]) * 32)
        sent = release("a", own, rule).scores[0]
        assert (sent.auroc, sent.ranks, sent.probabilities) == (None, RankFigures(), None)
        estimated = from_noisy(sent)
        assert estimated.variance is not None
        assert estimated.variance > exact
        estimate = a.site_estimate(estimated, 0.95)
        assert estimate is not None
        low, high = estimate.interval
        hits += low <= roc_auc_score(own.labels, own.logits) <= high
    assert hits >= 95
