"""Strategies give the results of Flower's strategies or of the papers; outliers are detected."""

from typing import get_args

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower
from hypothesis import given
from hypothesis import strategies as st

from fedrad.exchange.experiment import FederationSettings
from fedrad.exchange.strategies import SETTINGS_READ, ServerSettings, StrategyName
from fedrad.exchange.update import flatten, pack, unflatten, unpack
from fedrad.flower.internals import TaskIdentity
from fedrad.server.results.summary import SiteRound
from fedrad.server.rounds import aggregation
from fedrad.server.rounds.aggregation import outliers, step_norm
from fedrad.server.rounds.spool import SpooledUpdate, ValuesOnDisk
from fedrad.server.rounds.strategies import STRATEGIES, strategy_of

NAMES = ["conv.weight", "bn.weight", "fc.weight"]


def drawn(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [(3, 2, 2), (3,), (2, 3)]
    return {n: rng.normal(size=s).astype(np.float32) for n, s in zip(NAMES, shapes, strict=True)}


def packed(tensors):
    return pack(tensors, list(tensors), round_=0, stage="all", base_sha256="b" * 64)


def spooled(folder, models, weights):
    """Updates on disk, and their manifest."""
    updates = {}
    for number, (model, weight) in enumerate(zip(models, weights, strict=True)):
        manifest, flat = packed(model)
        np.save(folder / f"{number}.npy", unpack(manifest, flat))
        updates[f"s{number}"] = SpooledUpdate(
            folder / f"{number}.npy", weight, SiteRound(status="ok")
        )
    return updates, manifest


def of_flower(strategy, models, weights, current=None, round_=1):
    """The result of Flower's strategy for the same updates."""
    if current is not None:
        strategy.current_arrays = (
            ArrayRecord({k: Array(v) for k, v in current.items()})
            if isinstance(strategy, flower.FedAvgM)
            else current
        )
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    replies = [
        Message(
            RecordDict(
                {
                    "arrays": ArrayRecord({k: Array(v) for k, v in model.items()}),
                    "metrics": MetricRecord({"num-examples": weight}),
                }
            ),
            dst_node_id=number + 1,
            message_type="train",
        )
        for number, (model, weight) in enumerate(zip(models, weights, strict=True))
    ]
    arrays, _ = strategy.aggregate_train(round_, replies)
    return {name: array.numpy() for name, array in arrays.items()}


@pytest.fixture(params=[2, 10**6], ids=["small blocks", "one block"])
def block_size(request, monkeypatch):
    """Values are combined in small blocks, or in one block."""
    monkeypatch.setattr(aggregation, "VALUES_AT_ONCE", request.param * 6)


class FedAdamOfThePaper(flower.FedAdam):
    """Flower's FedAdam corrects its bias by its rate (Kingma & Ba); Reddi et al. do not."""

    def aggregate_train(self, server_round, replies):
        corrected = np.sqrt(1 - self.beta_2 ** (server_round + 1))
        corrected /= 1 - self.beta_1 ** (server_round + 1)
        self.eta = SERVER.learning_rate / corrected
        return super().aggregate_train(server_round, replies)


SERVER = ServerSettings(learning_rate=0.05, beta_2=0.9, tau=1e-5, trim=0.4, byzantine=1)
"""Of these a strategy gets those that it reads; of the others it has its own defaults."""
REFERENCES = {
    "fedavg": flower.FedAvg,
    "fedavgm": lambda: flower.FedAvgM(server_learning_rate=0.05, server_momentum=0.9),
    "fedadam": lambda: FedAdamOfThePaper(eta=0.05, beta_1=0.9, beta_2=0.9, tau=1e-5),
    "fedyogi": lambda: flower.FedYogi(eta=0.05, beta_1=0.9, beta_2=0.9, tau=1e-5),
    "median": flower.FedMedian,
    "trimmed-mean": lambda: flower.FedTrimmedAvg(beta=0.4),
    "krum": lambda: flower.Krum(num_malicious_nodes=1),
}
"""Strategy -> Flower's of the same name, or a strategy of Flower's interface with the formula."""


def configured(name, server=SERVER, **stated):
    """A strategy with the settings that it reads."""
    read = {setting: getattr(server, setting) for setting in SETTINGS_READ[name]} | stated
    settings = ServerSettings(**{k: v for k, v in read.items() if v is not None})
    return strategy_of(FederationSettings(strategy=name, server=settings, quorum=6))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.usefixtures("block_size")
def test_every_strategy_has_a_reference_and_moves_the_global_model_as_it_does(tmp_path, name):
    ours, theirs = configured(name), REFERENCES[name]()
    current, other, moments = drawn(100), drawn(100), {}
    for round_ in range(1, 4):
        models, weights = [drawn(10 * round_ + seed) for seed in range(6)], [5, 1, 3, 2, 2, 9]
        updates, manifest = spooled(tmp_path, models, weights)
        values = flatten(current, NAMES)
        combined = ours.combine(updates, manifest)
        after, moments = ours.move(combined, values, values, manifest, moments)
        current = {k: v.copy() for k, v in unflatten(manifest, after).items()}
        other = of_flower(theirs, models, weights, other, round_)
        for tensor in NAMES:
            np.testing.assert_allclose(current[tensor], other[tensor], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_reads_the_settings_that_are_declared_for_it(tmp_path, name):
    class Noting(ServerSettings):
        def __getattribute__(self, attribute):
            if attribute in ServerSettings.model_fields:
                read.add(attribute)
            return super().__getattribute__(attribute)

    read = set()
    strategy = STRATEGIES[name](Noting())
    updates, manifest = spooled(tmp_path, [drawn(seed) for seed in range(6)], [1] * 6)
    values = flatten(drawn(100), NAMES)
    strategy.move(strategy.combine(updates, manifest), values, values, manifest, {})
    assert read == set(SETTINGS_READ[name])


@pytest.mark.parametrize("name", [name for name in STRATEGIES if "momentum" in SETTINGS_READ[name]])
def test_momentum_is_the_strategys_own_unless_the_experiment_states_another(tmp_path, name):
    def moved(**stated):
        strategy, values, moments = configured(name, **stated), flatten(drawn(100), NAMES), {}
        for seed in (1, 2):
            updates, manifest = spooled(tmp_path, [drawn(seed)], [1])
            combined = strategy.combine(updates, manifest)
            values, moments = strategy.move(combined, values, values, manifest, moments)
        return values

    own = STRATEGIES[name].default_momentum
    np.testing.assert_array_equal(moved(), moved(momentum=own))
    assert not np.allclose(moved(momentum=0.0), moved(momentum=0.5))


def test_tensors_unfrozen_later_start_with_initial_moments_and_statistics_have_none():
    strategy = configured("fedavgm")
    head = {"fc.weight": drawn(1)["fc.weight"]}
    full = head | {"bn.running_mean": np.zeros(3, np.float32), "conv.weight": drawn(1)[NAMES[0]]}
    moments = {}
    for tensors in (head, head, full):
        manifest, flat = packed(tensors)
        start = unpack(manifest, flat)
        moved, moments = strategy.move(start + 1, start, start, manifest, moments)
    moved = unflatten(manifest, moved)
    np.testing.assert_allclose(moved["bn.running_mean"], 1)
    np.testing.assert_allclose(moved["conv.weight"] - full["conv.weight"], 0.05, rtol=1e-5)
    momentum = 0.05 * (1 + 0.9 + 0.81)
    np.testing.assert_allclose(moved["fc.weight"] - head["fc.weight"], momentum, rtol=1e-5)


def test_the_encoding_error_stays_in_the_next_global_model():
    manifest, flat = packed(drawn(1))
    start = unpack(manifest, flat)
    error = np.float32(0.25)
    moved, _ = strategy_of(FederationSettings()).move(start + 1, start, start + error, manifest, {})
    np.testing.assert_allclose(moved, start + 1 + error, rtol=1e-6)


def test_every_strategy_that_an_experiment_may_name_is_there():
    assert set(STRATEGIES) == set(SETTINGS_READ) == set(get_args(StrategyName))


@pytest.mark.parametrize("name", STRATEGIES)
def test_sites_count_by_their_weight_or_all_the_same(tmp_path, name):
    models = [drawn(seed) for seed in range(5)]
    strategy = strategy_of(FederationSettings(strategy=name, quorum=5))
    one, two = (
        strategy.combine(*spooled(tmp_path, models, weights))
        for weights in ([5, 1, 3, 2, 2], [1, 4, 1, 7, 1])
    )
    assert strategy.weighted != np.array_equal(one, two)


@pytest.mark.parametrize("name", STRATEGIES)
def test_updates_are_read_in_blocks(tmp_path, monkeypatch, name):
    """15 values of five sites are read at once, 3 per site; krum also reads its result whole."""
    monkeypatch.setattr(aggregation, "VALUES_AT_ONCE", 15)
    read = []
    whole = ValuesOnDisk.__getitem__
    monkeypatch.setattr(
        ValuesOnDisk, "__getitem__", lambda self, part: read.append(part) or whole(self, part)
    )
    updates, manifest = spooled(tmp_path, [drawn(seed) for seed in range(5)], [1] * 5)
    strategy_of(FederationSettings(strategy=name, quorum=5)).combine(updates, manifest)
    assert read.count(slice(None)) == (name == "krum")
    assert {part.stop - part.start for part in read if part != slice(None)} == {3}


# Outliers


def test_the_norm_is_that_of_the_learned_step(tmp_path):
    start = {"fc.weight": np.ones((2, 2), np.float32), "bn.running_var": np.ones(3, np.float32)}
    model = {"fc.weight": np.full((2, 2), 2.5, np.float32), "bn.running_var": np.full(3, 1e6)}
    updates, manifest = spooled(tmp_path, [model], [1])
    values = flatten(start, list(start))
    assert step_norm(updates["s0"].values, values, manifest) == pytest.approx(3.0)


def test_an_update_is_an_outlier_among_three_and_never_of_two():
    assert outliers({"a": 1.0, "b": 1e6, "c": 1.0}, 20) == {"b": 1e6}
    assert outliers({"a": 1.0, "b": 1e6}, 20) == {}, "either may be the one that is wrong"
    assert outliers({"a": 1.0, "b": 2.0, "c": 21.0}, 20) == {}
    assert outliers({"a": 0.0, "b": 2.0, "c": 0.0}, 20) == {}
    assert outliers({}, 20) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1e6), max_size=9), st.floats(1.1, 50))
def test_at_least_half_of_the_sites_are_never_outliers(lengths, factor):
    assert len(outliers(lengths, factor)) <= len(lengths) / 2
