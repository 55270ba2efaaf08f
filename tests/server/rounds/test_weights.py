"""What a site weighs in the mean: its claim, within what it declared and the largest share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.federation import TEXT, Hospital, RunningFederation, TimedGrid, halves
from support.readiness import readiness_with

from fedrad.exchange.messages import Counts, Readiness
from fedrad.server.federation.declared import training_limit
from fedrad.server.rounds.weights import limited_weights


def weights(claims, declared, largest=1.0):
    limited = limited_weights(claims, declared, largest)
    return {site: (w.weight, w.limited_by) for site, w in limited.items()}


def test_claims_within_the_declared_counts_are_the_weights_to_the_bit():
    claims = {"a": 30.0, "b": 10.0, "c": 7.0}
    assert weights(claims, {"a": 30, "b": 12, "c": 7}) == {s: (w, None) for s, w in claims.items()}


def test_a_site_weighs_no_more_than_it_declared():
    assert weights({"a": 1e9, "b": 10.0}, {"a": 30, "b": 10}) == {
        "a": (30.0, "declared"),
        "b": (10.0, None),
    }


def test_a_site_that_withholds_its_counts_weighs_no_more_than_the_heaviest_that_declares():
    assert weights({"few": 1e9, "a": 50.0, "b": 20.0}, {"few": None, "a": 40, "b": 20}) == {
        "few": (40.0, "declared"),
        "a": (40.0, "declared"),
        "b": (20.0, None),
    }
    honest = {"few": 12.0, "a": 40.0}
    assert weights(honest, {"few": None, "a": 40}) == {s: (w, None) for s, w in honest.items()}


def test_where_all_withhold_none_weighs_more_than_the_heaviest_other_claim():
    nothing = dict.fromkeys("abc")
    assert weights({"a": 1e9, "b": 50.0, "c": 20.0}, nothing)["a"] == (50.0, "declared")
    assert weights({"a": 20.0}, {"a": None}) == {"a": (20.0, None)}, "a site alone"


def test_the_share_above_the_largest_goes_to_the_others_in_proportion():
    limited = limited_weights({"a": 900.0, "b": 75.0, "c": 25.0}, dict.fromkeys("abc", 10**9), 0.6)
    assert {s: w.share for s, w in limited.items()} == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.1})
    assert [w.limited_by for w in limited.values()] == ["share", None, None]


def test_of_two_sites_each_has_at_least_half_whatever_the_largest_share():
    limited = limited_weights({"a": 900.0, "b": 1.0}, {"a": 900, "b": 1}, 0.2)
    assert {w.share for w in limited.values()} == {0.5}


@given(
    st.dictionaries(st.text(max_size=3), st.floats(1, 1e9), min_size=1, max_size=9),
    st.floats(0.01, 1),
)
def test_no_share_is_above_the_largest_and_proportions_of_the_rest_are_kept(claims, largest):
    limited = limited_weights(claims, dict.fromkeys(claims, 10**9), largest)
    cap = max(largest, 1 / len(claims))
    assert sum(w.share for w in limited.values()) == pytest.approx(1)
    assert max(w.share for w in limited.values()) <= cap
    free = [site for site, w in limited.items() if w.share < cap * (1 - 1e-9)]
    ratios = [limited[site].share / claims[site] for site in free]
    assert ratios == pytest.approx(ratios[:1] * len(free))


# What a site declared


def readiness(train: dict[str, Counts]) -> Readiness:
    return readiness_with(units={"train": train})


def test_units_of_several_outcomes_add_up_and_a_withheld_count_leaves_no_limit():
    withheld = Counts(positives=None, negatives=None)
    assert training_limit(readiness({"x": halves(30)}), ["x"]) == 30
    assert training_limit(readiness({"x": halves(30), "y": halves(9)}), ["x", "y"]) == 39
    assert training_limit(readiness({"x": halves(30), "y": withheld}), ["x", "y"]) is None
    assert training_limit(readiness({"x": halves(30)}), ["x", "y"]) is None
    assert training_limit(readiness({"x": halves(0)}), ["x"]) == 1, "so that there is a mean"


# In a round


def test_ten_billion_patients_weigh_what_was_declared(tmp_path, base, clock):
    liar = Hospital("liar", base, units=10**9, declares=10, step=5.0)
    grid = TimedGrid(clock, Hospital("a", base, units=30), liar)
    coordinator = RunningFederation(tmp_path, base, grid)
    result = coordinator.round()
    assert coordinator.moved(base) == pytest.approx((30 * 1 + 10 * 5) / 40)
    assert (result.sites["liar"].share, result.sites["liar"].limited_by) == (0.25, "declared")
    assert (result.sites["a"].share, result.sites["a"].limited_by) == (0.75, None)
    assert coordinator.texts("weight_limited") == ["declared"]


def test_a_site_that_declared_ten_billion_patients_has_the_largest_share(tmp_path, base, clock):
    liar = Hospital("liar", base, units=10**9, step=5.0)
    grid = TimedGrid(clock, Hospital("a", base, units=30), Hospital("b", base, units=30), liar)
    coordinator = RunningFederation(
        tmp_path, base, grid, text=TEXT.replace("quorum = 2", "quorum = 2\nlargest_share = 0.5")
    )
    result = coordinator.round()
    assert coordinator.moved(base) == pytest.approx(3.0)
    assert (result.sites["liar"].share, result.sites["liar"].limited_by) == (0.5, "share")


def test_with_equal_weights_and_in_robust_means_counts_play_no_part(tmp_path, base, clock):
    for name, settings in (("equal", 'weighting = "equal"'), ("median", 'strategy = "median"')):
        (tmp_path / name).mkdir()
        liar = Hospital("liar", base, units=10**9, declares=None, step=3.0)
        grid = TimedGrid(clock, Hospital("a", base, units=30), liar)
        coordinator = RunningFederation(
            tmp_path / name, base, grid, text=TEXT.replace("quorum = 2", f"quorum = 2\n{settings}")
        )
        result = coordinator.round()
        assert coordinator.moved(base) == pytest.approx(2.0)
        assert result.sites["liar"].limited_by is None
