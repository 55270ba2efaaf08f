"""When a round closes, how long it waits, and what it records of each site."""

from collections.abc import Callable

import pytest
from support.federation import LOST, TEXT, Hospital, RunningFederation, TimedGrid

from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.messages import (
    Refusal,
    RoundRequest,
    to_record,
)
from fedrad.models.weights import load_base
from fedrad.server.federation.failure import ExperimentFailed, Stopped

Behaviour = Callable[["Hospital", RoundRequest], object]


def test_a_round_closes_when_all_have_answered(tmp_path, base, clock):
    grid = TimedGrid(clock, Hospital("a", base, units=30), Hospital("b", base, step=5.0))
    coordinator = RunningFederation(tmp_path, base, grid)
    started = clock.now
    result = coordinator.round()
    assert {s: r.status for s, r in result.sites.items()} == {"a": "ok", "b": "ok"}
    assert clock.now - started < 7
    assert coordinator.moved(base) == pytest.approx((30 * 1 + 10 * 5) / 40)


def test_a_round_closes_at_the_deadline_with_a_quorum(tmp_path, base, clock):
    slow = Hospital("slow", base, takes=2500)
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), slow)
    slow.takes = 5
    coordinator = RunningFederation(tmp_path, base, grid)
    slow.takes = 700
    started = clock.now
    first = coordinator.round(0)
    assert 600 <= clock.now - started < 610
    assert first.sites["slow"].status == "timeout"
    slow.takes = 5
    second = coordinator.round(1)
    assert second.sites["slow"].status == "ok", "it answered the first round late, then the second"
    assert coordinator.texts("late") == ["answer to an earlier request, not used"]
    assert slow.asked == [0, 1]


def test_a_lost_site_does_not_hold_up_a_quorum_and_returns(tmp_path, base, clock):
    lost = Hospital("lost", base, behaves=lambda h, r: LOST if r.round == 0 else None)
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), lost)
    coordinator = RunningFederation(tmp_path, base, grid)
    started = clock.now
    first = coordinator.round(0)
    assert first.sites["lost"].status == "lost"
    assert "Flower error 3" in first.sites["lost"].why
    assert clock.now - started < 60
    lost.here = False
    clock.now += 60
    second = coordinator.round(1)
    assert second.sites["lost"].why == "its node is not connected"
    lost.here = True
    clock.now += 60
    assert coordinator.round(2).sites["lost"].status == "ok"


def test_without_a_quorum_a_round_waits_and_records_it(tmp_path, base, clock):
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), Hospital("c", base))
    coordinator = RunningFederation(tmp_path, base, grid)
    for hospital in ("b", "c"):
        grid.move(hospital, here=False)()
    clock.now += 10
    grid.at(1800, grid.move("c", here=True))
    started = clock.now
    result = coordinator.round()
    assert 1800 <= clock.now - started < 1820
    assert {s: r.status for s, r in result.sites.items()} == {"a": "ok", "b": "lost", "c": "ok"}
    assert 3 <= len(coordinator.texts("waiting")) <= 5
    assert "round 1: 1 sound updates, the quorum is 2" in coordinator.texts("waiting")[0]
    assert grid.hospitals[1].asked == [0], "a site that has answered is not asked again"


def test_when_patience_ends_the_model_is_unchanged(tmp_path, base, clock):
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base))
    coordinator = RunningFederation(tmp_path, base, grid)
    grid.move("b", here=False)()
    clock.now += 10
    started = clock.now
    with pytest.raises(ExperimentFailed, match="1 sound updates, the quorum is 2"):
        coordinator.round()
    assert 3600 <= clock.now - started < 3700
    assert coordinator.moved(base) == 0


def test_a_site_that_refused_is_asked_again_while_there_is_no_quorum(tmp_path, base, clock):
    def once(hospital, request):
        return to_record(Refusal(reason="storage")) if len(hospital.asked) < 3 else None

    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base, behaves=once))
    coordinator = RunningFederation(tmp_path, base, grid)
    result = coordinator.round()
    assert result.sites["b"].status == "ok"
    assert "b: the site cannot keep its decoded images" in coordinator.texts("waiting")[0]


def test_an_update_a_million_times_too_large_is_rejected_and_asked_for_again_next_round(
    tmp_path, base, clock
):
    wild = Hospital("wild", base, step=1e6)
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), wild)
    coordinator = RunningFederation(tmp_path, base, grid)
    first = coordinator.round(0)
    assert first.sites["wild"].status == "invalid"
    assert first.sites["wild"].why == "update rejected: its norm is 1e+06 times the sites' median"
    assert coordinator.moved(base) == pytest.approx(1, abs=1e-4)
    wild.step = 1.0
    assert coordinator.round(1).sites["wild"].status == "ok"
    assert coordinator.moved(base) == pytest.approx(2, abs=1e-4)


def test_an_outlier_of_three_sites_does_not_count_for_the_quorum(tmp_path, base, clock):
    grid = TimedGrid(
        clock, Hospital("a", base), Hospital("b", base), Hospital("wild", base, step=1e6)
    )
    coordinator = RunningFederation(
        tmp_path, base, grid, text=TEXT.replace("quorum = 2", "quorum = 3"), patience=100
    )
    with pytest.raises(ExperimentFailed, match=r"wild: update rejected: its norm is 1e\+06 times"):
        coordinator.round()


def test_of_two_sites_none_is_an_outlier_and_each_is_clipped(tmp_path, base, clock):
    """A tiny step of a liar made the honest site the outlier, and the liar the only voice."""
    grid = TimedGrid(clock, Hospital("honest", base), Hospital("liar", base, step=1e-6))
    coordinator = RunningFederation(tmp_path, base, grid)
    result = coordinator.round(0)
    assert {s: r.status for s, r in result.sites.items()} == {"honest": "ok", "liar": "ok"}
    assert coordinator.moved(base) == pytest.approx(0.5, abs=1e-4)


def test_an_update_longer_than_the_clip_is_scaled_down_to_it_and_recorded(tmp_path, base, clock):
    grid = TimedGrid(clock, Hospital("honest", base, step=0.0), Hospital("liar", base, step=1e6))
    coordinator = RunningFederation(tmp_path, base, grid)
    result = coordinator.round(0)
    liar, honest = result.sites["liar"], result.sites["honest"]
    assert (liar.status, liar.clipped, honest.clipped) == ("ok", True, False)
    values = (liar.norm / 1e6) ** 2
    assert coordinator.moved(base) == pytest.approx(1e4 / values**0.5 / 2, rel=1e-3)
    assert result.norm == pytest.approx(5e3, rel=1e-3)


def test_a_new_site_joins_during_the_training(tmp_path, base, clock):
    late = Hospital("late", base)
    late.here = False
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), late)
    coordinator = RunningFederation(tmp_path, base, grid)
    assert "late" not in coordinator.round(0).sites
    late.here = True
    clock.now += 5
    coordinator.round(1)
    assert coordinator.round(2).sites["late"].status == "ok"


def test_a_restarted_site_takes_its_place_again_once_its_old_node_is_gone(tmp_path, base, clock):
    old, new = Hospital("b", base), Hospital("b", base)
    new.here = False
    grid = TimedGrid(clock, Hospital("a", base), old, Hospital("c", base), new)
    coordinator = RunningFederation(tmp_path, base, grid)
    new.here = True
    clock.now += 5
    coordinator.round(0)
    assert "a node of this name is connected" in coordinator.federation.absent["node 4"]
    old.here = False
    clock.now += 60
    coordinator.round(1)
    assert coordinator.federation.connected["b"] == 4
    assert coordinator.round(2).sites["b"].status == "ok"
    assert (old.asked, new.asked[-1]) == ([0], 2)


def test_a_site_with_another_base_does_not_take_part(tmp_path, base, clock):
    other = load_base(parse_experiment(TEXT).model, 1, seed=1)
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), Hospital("other", other))
    coordinator = RunningFederation(tmp_path, base, grid)
    assert coordinator.round().sites.keys() == {"a", "b"}
    assert "differs from the coordinator's" in coordinator.federation.absent["other"]


def test_too_few_sites_are_named_with_their_reasons(tmp_path, base, clock):
    other = load_base(parse_experiment(TEXT).model, 1, seed=1)
    grid = TimedGrid(clock, Hospital("a", base), Hospital("other", other))
    with pytest.raises(ExperimentFailed, match=r"needed, 1 can \(a\)\n  other:"):
        RunningFederation(tmp_path, base, grid, patience=30)


def test_a_run_that_is_asked_to_stop_stops(tmp_path, base, clock):
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base, takes=5))
    coordinator = RunningFederation(tmp_path, base, grid)
    (tmp_path / "stop").touch()
    with pytest.raises(Stopped):
        coordinator.round()


@pytest.mark.parametrize(
    ("weighting", "expected"), [("patients", 1.5), ("images", 1.5), ("equal", 2.0)]
)
def test_weights_are_what_the_experiment_says(tmp_path, base, clock, weighting, expected):
    text = TEXT.replace("quorum = 2", f'quorum = 2\nweighting = "{weighting}"')
    grid = TimedGrid(clock, Hospital("a", base, units=30), Hospital("b", base, units=10, step=3.0))
    coordinator = RunningFederation(tmp_path, base, grid, text=text)
    coordinator.round()
    assert coordinator.moved(base) == pytest.approx(expected)
