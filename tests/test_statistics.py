"""The four AUROCs, against scikit-learn and brute force on scores laid together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from fedrad.client.disclosure import Disclosure, delong_variance
from fedrad.exchange.histogram import LIMIT, count
from fedrad.exchange.messages import Scores
from fedrad.server import statistics as s


def federation(seed: int, sites: int = 4, one_class: bool = False, ties: bool = False):
    """Random sites: logits and labels, of differing size, prevalence and separation."""
    rng = np.random.default_rng(seed)
    result = []
    for site in range(sites):
        n = int(rng.integers(12, 120))
        labels = (rng.random(n) < rng.uniform(0.2, 0.8)).astype(np.float32)
        labels[:2] = 0, 1
        if one_class and site == 0:
            labels[:] = 1
        logits = rng.normal(rng.normal(), rng.uniform(0.5, 12), n) + labels * rng.uniform(0, 3)
        result.append((np.round(logits) if ties else logits, labels))
    return result


def cells(sites) -> list[Scores]:
    rule = Disclosure(minimum_units=1, minimum_bin=3)
    return [rule.scores("global", "y", logits, labels, 0.0) for logits, labels in sites]


def clipped(sites):
    logits = np.concatenate([np.clip(a, -LIMIT, LIMIT) for a, _ in sites])
    return logits, np.concatenate([b for _, b in sites])


@given(st.integers(0, 2**31), st.integers(1, 8), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_pooled_auroc_lies_within_its_certified_bound(seed, sites, one_class, ties):
    data = federation(seed, sites, one_class and sites > 1, ties)
    figures = s.pooled([c.histogram for c in cells(data)], 0.95)
    logits, labels = clipped(data)
    assert abs(figures.value - roc_auc_score(labels, logits)) <= figures.bound + 1e-12


@given(st.integers(0, 2**31), st.booleans())
@settings(max_examples=50, deadline=None)
def test_pooled_is_the_pair_weighted_mean_of_the_auc_table(seed, one_class):
    histograms = [c.histogram for c in cells(federation(seed, 4, one_class))]
    P = sum(h.total_positives for h in histograms)
    N = sum(h.total_negatives for h in histograms)
    total = sum(
        i.total_positives * j.total_negatives / (P * N) * s.pair_auroc(i, j)[0]
        for i in histograms
        for j in histograms
        if i.total_positives and j.total_negatives
    )
    assert s.pooled(histograms, 0.95).value == pytest.approx(total)


def test_within_site_weighs_pairs_and_macro_weighs_sites():
    data = federation(1, 5)
    own = np.array([roc_auc_score(b, a) for a, b in data])
    pairs = np.array([b.sum() * (1 - b).sum() for _, b in data])
    assert s.within_site(cells(data), 0.95).value == pytest.approx(
        (own * pairs).sum() / pairs.sum()
    )
    assert s.macro(cells(data), 0.95).value == pytest.approx(own.mean())


def test_a_site_with_one_class_adds_to_the_pooled_auroc_but_has_none_of_its_own():
    data = federation(2, 3, one_class=True)
    of_sites = cells(data)
    assert of_sites[0].auroc is None
    assert of_sites[0].missing == "one class"
    assert s.site_estimate(of_sites[0], 0.95) is None
    assert s.within_site(of_sites, 0.95) == s.within_site(of_sites[1:], 0.95)
    without = s.pooled([c.histogram for c in of_sites[1:]], 0.95)
    assert s.pooled([c.histogram for c in of_sites], 0.95).value != without.value


def test_site_only_is_the_auroc_of_the_prevalence():
    data = federation(3, 5, one_class=True)
    score = np.concatenate([np.full(len(b), b.mean()) for _, b in data])
    labels = np.concatenate([b for _, b in data])
    assert s.site_only(cells(data)) == pytest.approx(roc_auc_score(labels, score))
    pairs = sum(b.sum() * (1 - b).sum() for _, b in data)
    everything = labels.sum() * (1 - labels).sum()
    assert s.within_share(cells(data)) == pytest.approx(pairs / everything)


def test_delong_variance_equals_the_brute_force_one():
    logits, labels = federation(4, 1, ties=True)[0]
    kernel = (logits[labels == 1][:, None] > logits[labels == 0]) + 0.5 * (
        logits[labels == 1][:, None] == logits[labels == 0]
    )
    P, N = kernel.shape
    expected = kernel.mean(1).var(ddof=1) / P + kernel.mean(0).var(ddof=1) / N
    assert delong_variance(logits, labels) == pytest.approx(expected)
    u = mannwhitneyu(logits[labels == 1], logits[labels == 0]).statistic
    assert roc_auc_score(labels, logits) == pytest.approx(u / (P * N))


def test_with_fine_bins_the_pooled_interval_is_delongs():
    rng = np.random.default_rng(5)
    labels = (rng.random(4000) < 0.4).astype(np.float32)
    logits = rng.normal(size=4000) * 3 + labels * 2
    figures = s.pooled([count(logits, labels, minimum_bin=1)], 0.95)
    low, high = s.logit_interval(
        roc_auc_score(labels, logits), delong_variance(logits, labels), 1600, 2400, 0.95
    )
    assert figures.interval[0] + figures.bound == pytest.approx(low, abs=2e-3)
    assert figures.interval[1] - figures.bound == pytest.approx(high, abs=2e-3)


def test_perfect_separation_has_an_interval_that_is_no_point():
    low, high = s.logit_interval(1.0, 0.0, 12, 12, 0.95)
    assert 0.8 < low < 0.9
    assert high == 1
    assert s.logit_interval(0.0, 0.0, 12, 12, 0.95) == pytest.approx((0, 1 - low))


def test_newcombes_interval_is_near_delongs_where_both_hold():
    logits, labels = federation(7, 1)[0]
    auroc, variance = roc_auc_score(labels, logits), delong_variance(logits, labels)
    P, N = int(labels.sum()), int((1 - labels).sum())
    assert s.newcombe_interval(auroc, P, N, 0.95) == pytest.approx(
        s.logit_interval(auroc, variance, P, N, 0.95), abs=0.03
    )


def test_hanley_and_mcneil_gives_their_published_standard_error():
    # Hanley & McNeil 1982: 51 abnormal, 58 normal, AUROC 0.893, standard error 0.032.
    assert s.hanley_mcneil(0.893, 51, 58) ** 0.5 == pytest.approx(0.032, abs=0.001)


def test_the_interval_covers_the_truth():
    rng = np.random.default_rng(6)
    truth, hits = 0.7602, 0  # two normals a distance of 1 apart
    for _ in range(400):
        labels = np.repeat([0.0, 1.0], [60, 40]).astype(np.float32)
        logits = rng.normal(size=100) + labels
        low, high = s.logit_interval(
            roc_auc_score(labels, logits), delong_variance(logits, labels), 40, 60, 0.95
        )
        hits += low <= truth <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_threshold_lies_where_the_classes_part():
    labels = np.repeat([0.0, 1.0], 100)
    logits = np.concatenate([np.linspace(-3, -0.5, 100), np.linspace(0.5, 3, 100)])
    threshold = s.best_threshold([count(logits, labels, minimum_bin=3)])
    assert -0.6 <= threshold <= 0.6
    assert s.best_threshold([count(logits[:100], labels[:100], minimum_bin=3)]) is None
