"""How far an update and a step of the global model may go, with every strategy."""

import numpy as np
import pytest
from support.federation import TEXT, Hospital, RunningFederation, TimedGrid

from fedrad.exchange.update import flatten, pack
from fedrad.server.rounds.aggregation import step_norm
from fedrad.server.rounds.limits import checked_update, clipped, plausible_statistics
from fedrad.server.rounds.strategies import STRATEGIES

NAMES = ["conv.weight", "bn.running_mean", "bn.running_var"]


def values(weight: float, mean: float, variance: float):
    shapes = ((2, 2), (3,), (3,))
    each = zip(NAMES, shapes, (weight, mean, variance), strict=True)
    return {name: np.full(shape, value, np.float32) for name, shape, value in each}


def packed(tensors):
    return pack(tensors, NAMES, round_=0, stage="all", base_sha256="b" * 64)


START = flatten(values(1.0, 0.0, 1.0), NAMES)
MANIFEST = packed(values(1.0, 0.0, 1.0))[0]


def test_a_step_is_scaled_to_the_norm_and_statistics_are_not():
    after = flatten(values(4.0, 0.5, 2.0), NAMES)
    shorter, norm, scaled = clipped(after, START, MANIFEST, 3.0)
    assert (norm, scaled) == (6.0, True)
    np.testing.assert_allclose(shorter, flatten(values(2.5, 0.5, 2.0), NAMES), rtol=1e-5)
    assert step_norm(shorter, START, MANIFEST) <= 3.0
    same, norm, scaled = clipped(after, START, MANIFEST, 6.0)
    assert same is after
    assert (norm, scaled) == (6.0, False)


@pytest.mark.parametrize(
    ("mean", "variance", "expected"),
    [
        (0.5, 3.0, (0.5, 3.0)),
        (1e30, 1.0, (1000**0.5, 1.0)),
        (0.0, 1e30, (0.0, 1000.0)),
        (0.0, -5.0, (0.0, 0.001)),
        (0.0, 0.0, (0.0, 0.001)),
    ],
)
def test_one_absurd_statistic_does_not_make_the_network_constant(mean, variance, expected):
    after = flatten(values(1.0, mean, variance), NAMES)
    limited = plausible_statistics(after, START, MANIFEST)
    np.testing.assert_allclose(limited, flatten(values(1.0, *expected), NAMES), rtol=1e-5)
    assert (limited is after) == ((mean, variance) == expected)


def test_statistics_of_dead_channels_may_come_to_life():
    dead = flatten(values(1.0, 0.0, 1e-38), NAMES)
    alive = flatten(values(1.0, 0.01, 0.005), NAMES)
    assert plausible_statistics(alive, dead, MANIFEST) is alive


def test_values_near_the_largest_float_are_scaled_like_others():
    manifest, flat = packed(values(3e38, 0.0, 1.0))
    update = checked_update(manifest, flat, MANIFEST, START, 2.0)
    assert update.limited
    assert step_norm(update.values, START, MANIFEST) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("name", STRATEGIES)
def test_with_every_strategy_the_global_step_is_within_the_clip(tmp_path, base, clock, name):
    """A site refuses a model that is further from the last one than `federation.clip`."""
    rates = {"fedavgm": 5.0, "fedadam": 1.0, "fedyogi": 1.0}
    server = f"[federation.server]\nlearning_rate = {rates[name]}\n" if name in rates else ""
    text = (
        TEXT.replace("quorum = 2", f'quorum = 5\nstrategy = "{name}"')
        .replace("clip = 1e4", "clip = 20")
        .replace("[evaluation]", f"{server}[evaluation]")
    )
    sites = [
        Hospital(s, base, step=step) for s, step in zip("abcde", (1, 1, 2, 3, 1e6), strict=True)
    ]
    grid = TimedGrid(clock, *sites)
    coordinator = RunningFederation(
        tmp_path, base, grid, text=text.replace("quorum = 5", "quorum = 5\noutlier_factor = 1e9")
    )
    for number in range(3):
        before = weights_of(coordinator)
        result = coordinator.round(number)
        assert all(site.clipped for site in result.sites.values())
        assert 1 < np.linalg.norm(weights_of(coordinator) - before) <= 20


def weights_of(coordinator: RunningFederation) -> np.ndarray:
    state = coordinator.model.network.state_dict()
    learned = [n for n in state if "running" not in n and "num_batches" not in n]
    return flatten({n: v.numpy() for n, v in state.items()}, learned).astype(np.float64)


def test_a_server_optimizer_that_goes_too_far_is_scaled_down(tmp_path, base, clock):
    text = TEXT.replace("clip = 1e4", 'clip = 20\nstrategy = "fedavgm"').replace(
        "[evaluation]", "[federation.server]\nlearning_rate = 50.0\n[evaluation]"
    )
    coordinator = RunningFederation(
        tmp_path, base, TimedGrid(clock, Hospital("a", base), Hospital("b", base)), text=text
    )
    result = coordinator.round()
    assert result.clipped
    assert result.norm == pytest.approx(50 * 20, rel=1e-3)
