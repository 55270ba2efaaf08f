"""What a site does not release, whatever is requested."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_federations import OPERATING, SiteScores, federation, figures, release

from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.participant.score_store import ReleaseStore, ScoreStore, question_digest
from fedrad.client.problems import SiteProblem
from fedrad.exchange.figures import Release
from fedrad.exchange.histogram import CELLS, count_in_bins, grid_cells
from fedrad.exchange.messages import ReleaseRequest
from fedrad.stats.exact import Units

RULE = Disclosure(minimum_units=10, minimum_bin=3)


def site(positives: int, negatives: int, seed: int = 0) -> SiteScores:
    labels = np.repeat([1, 0], [positives, negatives]).astype(np.float32)
    return SiteScores(np.random.default_rng(seed).normal(labels, 1), labels)


@given(st.integers(0, 2**31), st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_no_released_figure_is_about_fewer_patients_than_the_rule_allows(seed, minimum_bin):
    rule = Disclosure(minimum_units=10, minimum_bin=minimum_bin)
    for name, own in federation(seed, 4, largest=200).items():
        sent = release(name, own, rule).scores[0]
        few = min(n for n in (own.labels.sum(), (1 - own.labels).sum()) if n) < 10
        assert (sent.missing == "below minimum") == few
        if few:
            assert (
                sent.model_dump(exclude={"model", "outcome", "missing"}, exclude_defaults=True)
                == {}
            )
            continue
        h = sent.histogram
        assert h is not None
        bins = [p + n for p, n in zip(h.positives, h.negatives, strict=True)]
        assert all(n == 0 or n >= minimum_bin for n in bins)
        assert sent.probabilities is not None
        start = 0
        for b in sent.probabilities.curve:  # a union of the histogram's bins, of ten patients
            end = h.edges.index(b.end)
            assert sum(bins[start:end]) >= 10
            start = end


@given(st.lists(st.floats(-40, 40), min_size=3, max_size=60), st.integers(1, 5), st.data())
@settings(max_examples=100, deadline=None)
def test_a_preferred_edge_is_used_only_if_both_sides_have_enough_patients(z, minimum, data):
    wish = data.draw(st.integers(0, CELLS))
    labels = np.arange(len(z)) % 2
    h = count_in_bins(z, labels, minimum_bin=minimum, at=[wish])
    below = int((grid_cells(z) < wish).sum())
    sides = (below, len(z) - below)
    if all(n == 0 or n >= minimum for n in sides):
        assert wish in h.edges
    if len(z) >= minimum:
        assert all(
            n == 0 or n >= minimum
            for n in (p + q for p, q in zip(h.positives, h.negatives, strict=True))
        )
    assert h.total_positives + h.total_negatives == len(z)


def test_decisions_with_few_patients_on_one_side_are_withheld_with_the_reason():
    labels = np.repeat([1, 0], [20, 20]).astype(np.float32)
    logits = np.linspace(-4, -1, 40)
    logits[:2] = 3.0  # two patients above the threshold
    cells, whole = figures({"a": SiteScores(logits, labels)}, RULE)
    assert cells["a"].decisions.sensitivity is None
    assert cells["a"].withheld["sensitivity"] == "below minimum"
    assert (whole.decisions.sensitivity, whole.threshold_sites) == (None, [])
    logits[:3] = 3.0
    cells, _ = figures({"a": SiteScores(logits, labels)}, RULE)
    assert cells["a"].decisions.sensitivity == 3 / 20


# Subgroups


@given(st.lists(st.tuples(st.integers(-1, 3), st.booleans()), max_size=120), st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_released_groups_and_the_rest_of_the_units_have_enough_patients(units, minimum):
    groups = np.array([g for g, _ in units], dtype=np.int64)
    labels = np.array([y for _, y in units], dtype=np.float32)
    released = Disclosure(minimum, 1).groups(Units(labels), groups, 4)
    for group in released:
        for value in (0, 1):
            assert ((groups == group) & (labels == value)).sum() >= minimum
    rest = ~np.isin(groups, list(released))
    if released and rest.any():
        assert min((rest & (labels == value)).sum() for value in (0, 1)) >= minimum


def test_with_a_small_group_another_one_is_withheld_too():
    groups = np.repeat([0, 1, 2], [60, 40, 6])
    labels = np.tile([0.0, 1.0], 53).astype(np.float32)
    assert RULE.groups(Units(labels), groups, 3) == {0}, "else 6 = all - 60 - 40"
    assert RULE.groups(Units(labels), np.repeat([0, 1, -1], [60, 40, 6]), 2) == {0}
    assert RULE.groups(Units(labels[:100]), groups[:100], 3) == {0, 1}


# A site releases once


def asked(*models: str) -> ReleaseRequest:
    return ReleaseRequest(part="test", models=list(models))


def test_a_site_releases_once_and_repeats_its_release(tmp_path: Path):
    store, logits = ReleaseStore(tmp_path), {"global": np.arange(6.0).reshape(3, 2)}
    digest = question_digest(asked("global"), [logits])
    assert store.earlier("test", digest) is None
    release_ = Release(part="test", scores=release("a", site(20, 20), RULE).scores)
    store.record(digest, release_)
    assert store.earlier("test", digest) == release_
    assert store.earlier("validation", digest) is None
    for other in (
        question_digest(asked("global", "base"), [logits]),
        question_digest(asked("global"), [{"global": logits["global"] + 1e-9}]),
    ):
        with pytest.raises(SiteProblem) as problem:
            store.earlier("test", other)
        assert problem.value.reason == "released"


def test_stored_scores_belong_to_the_units_that_were_scored(tmp_path: Path):
    scored = ScoreStore(tmp_path)
    scored.save("test", "local:a", ["p", "q"], np.zeros((2, 1)), "digest")
    assert scored.digest("test", "local:a") == "digest"
    assert scored.read("test", "local:a", ["p", "q"]) is not None
    assert scored.read("validation", "local:a", ["p", "q"]) is None
    with pytest.raises(SiteProblem, match="other test units"):
        scored.read("test", "local:a", ["p", "r"])


# Noise


def test_with_noise_nothing_exact_is_released_and_its_cost_adds_up():
    noisy = Disclosure(minimum_units=10, minimum_bin=3, epsilon=0.5, secret=bytes(32))
    own = site(40, 60)
    sent = release("a", own, noisy)
    assert sent.epsilon == 0.5
    assert (sent.comparisons, sent.subgroups) == ([], [])
    scores = sent.scores[0]
    exact = {"model", "outcome", "positives", "negatives", "histogram", "epsilon"}
    assert set(scores.model_dump(exclude_defaults=True)) == exact
    h = scores.histogram
    assert h is not None
    assert np.diff(h.edges).tolist() == [8] * 16, (
        "the edges of the bins disclose nothing about the scores"
    )
    assert noisy.monitoring(own.logits, Units(own.labels), "0", "y").missing == "declined"
    several = SiteScores(own.logits, own.labels, np.arange(100) // 2)
    assert release("a", several, noisy).scores[0].missing == "declined", "two units, twice the cost"


def test_with_noise_a_class_is_too_small_by_its_noisy_count():
    """By the exact count, it would disclose whether the class has as many patients."""
    answers = set()
    for model in range(60):
        rule = Disclosure(10, 3, epsilon=0.5, secret=bytes([model]) * 32)
        sent = release("a", site(9, 60), rule).scores[0]
        answers.add(sent.missing)
        assert sent.epsilon == 0.5, "it costs, whatever the answer is"
        assert (sent.histogram is None) == (sent.missing == "below minimum")
    assert answers == {None, "below minimum"}


def test_the_operating_point_of_these_tests_is_a_real_edge():
    assert 0 < OPERATING.threshold < CELLS
