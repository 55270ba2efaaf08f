"""A release has no more digits than its intervals justify."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_federations import federation, normals, release

from fedrad.client.figures.cross_validation import CrossValidation
from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.scored_units import ScoredUnits
from fedrad.exchange.rounding import significant, step_of, to_step
from fedrad.server.results.contradictions import contradiction
from fedrad.stats.auroc import pair_auroc

RULE = Disclosure(minimum_units=1, minimum_bin=1)


@given(st.floats(1e-9, 1.0))
def test_rounding_adds_at_most_two_per_cent_to_a_variance(variance):
    step = step_of(variance)
    assert step in (0.001, 0.01, 0.1)
    assert step == 0.001 or step**2 / 12 <= 0.021 * variance


@pytest.mark.parametrize(
    ("error", "step"), [(0.0005, 0.001), (0.019, 0.001), (0.021, 0.01), (0.1, 0.01), (0.25, 0.1)]
)
def test_the_step_is_a_power_of_ten_below_half_a_standard_error(error, step):
    assert step_of(error**2) == step


def test_values_have_the_digits_of_their_step():
    assert to_step(0.81777, 0.01) == 0.82
    assert to_step(-0.0449, 0.001) == -0.045
    assert to_step(0.333, 0.05) == 0.35
    assert significant(0.0036735, 2) == 0.0037
    assert significant(123456.0, 3) == 123000.0
    assert significant(0.0, 2) == 0.0


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_every_figure_of_scores_is_rounded_and_stays_within_its_rounding(seed):
    for name, own in federation(seed, 3, largest=200).items():
        sent = release(name, own, RULE).scores[0]
        exact = release(name, own, RULE, exact=True).scores[0]
        assert contradiction(sent) is None, "the coordinator accepts what was rounded"
        assert sent.histogram == exact.histogram
        if exact.auroc is None:
            continue
        assert sent.variance == pytest.approx(exact.variance, rel=0.06)
        step = step_of(sent.variance)
        for value, true in (
            (sent.auroc, exact.auroc),
            (sent.ranks.average_precision, exact.ranks.average_precision),
        ):
            assert abs(value - true) <= step / 2 + 1e-9
            assert value == to_step(value, step)
        for value, true in zip(sent.probabilities.curve, exact.probabilities.curve, strict=True):
            assert value.end == true.end
            assert abs(value.mean - true.mean) <= 0.005 + 1e-9
        assert abs(sent.probabilities.exact.brier - exact.probabilities.exact.brier) <= 0.0005


def test_an_auroc_no_longer_counts_the_pairs_in_order():
    """Exact, AUROC · P · N is a whole number: how many pairs of patients are in order."""
    labels = np.repeat([1, 0], [50, 117]).astype(np.float32)
    rule = CrossValidation(["y"], Disclosure(10, 3), "local:a")
    for seed in range(20):
        scores = np.random.default_rng(seed).normal(labels, 1)
        units = ScoredUnits(labels[:, None], np.arange(167), {"global": scores[:, None]})
        sent = rule.release([units], [], ["global"], {}).scores[0]
        assert sent.auroc == round(sent.auroc, 2)


def test_folds_comparisons_and_groups_are_rounded_too():
    rng = np.random.default_rng(4)
    labels = (rng.random(60) < 0.4).astype(np.float32)
    parts = [
        ScoredUnits(
            labels[:, None],
            np.arange(60) + 60 * fold,
            {m: rng.normal(labels, 1)[:, None] for m in ("global", "base", "local:a")},
            {"sex": rng.integers(0, 2, 60)},
        )
        for fold in range(3)
    ]
    rule = CrossValidation(["y"], Disclosure(5, 3), "local:a", {"sex": ("F", "M")})
    sent = rule.release(parts, [], ["global", "base", "local:a"], {})
    exact = rule.exact(parts, [], ["global", "base", "local:a"], {})
    assert sent != exact
    rounded = [
        *sent.scores[0].folds,
        *(c.difference for c in sent.comparisons),
        *(g.auroc for g in sent.subgroups),
        sent.scores[0].auroc,
    ]
    assert len(rounded) == 3 + 2 + 2 + 1
    assert all(v == round(v, 2) for v in rounded)


def test_an_auroc_that_is_off_by_more_than_rounding_is_a_contradiction():
    own = normals(np.random.default_rng(1), 60, 60, 0.8)
    sent = release("a", own, Disclosure(1, 1)).scores[0]
    exact = release("a", own, Disclosure(1, 1), exact=True).scores[0]
    value, bound = pair_auroc(exact.histogram, exact.histogram)
    step = step_of(sent.variance)
    within = sent.model_copy(update={"auroc": value + bound + 0.4 * step})
    outside = sent.model_copy(update={"auroc": value + bound + 0.6 * step})
    assert contradiction(within) is None
    assert "AUROC" in (contradiction(outside) or "")
