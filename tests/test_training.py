"""A round of training at a site: what is drawn, what is minimised, and that it can be repeated."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from fedrad.models.augment import augment
from fedrad.models.network import ResNet, digest
from fedrad.models.schedule import Schedule
from fedrad.models.settings import ModelSettings, RecipeSettings
from fedrad.models.training import Examples, balanced_order, masked_loss, score, train_round

CPU = torch.device("cpu")
NARROW = ModelSettings(backbone="resnet18", width=0.125, weights="random", size=32)
NAN = float("nan")


def network(outputs: int = 1) -> ResNet:
    torch.manual_seed(2)
    return ResNet(NARROW, outputs)


def cohort(count: int, seed: int = 0) -> Examples:
    """Noise, with a bright lower half in those of class 1."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2).astype(np.float32)[:, None]
    images = rng.normal(-300, 200, (count, 32, 32))
    images[:, 16:] += 500 * labels[:, :, None]
    return Examples(images.clip(-1024, 1024).astype(np.float16), labels)


# The loss


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-30, 30), st.sampled_from([0.0, 1.0])), min_size=1))
def test_the_loss_is_binary_cross_entropy(pairs: list[tuple[float, float]]) -> None:
    """-ln p of a positive, -ln(1 - p) of a negative, with p the logistic of the logit."""
    logits, labels = (torch.tensor(column)[:, None] for column in zip(*pairs, strict=True))
    expected = np.mean([np.logaddexp(0, -z if y else z) for z, y in pairs])
    assert masked_loss(logits, labels).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert torch.allclose(
        masked_loss(logits, labels), functional.binary_cross_entropy_with_logits(logits, labels)
    )


def test_an_unknown_outcome_is_neither_counted_nor_learnt_from() -> None:
    labels = torch.tensor([[1.0, NAN], [NAN, 0.0], [0.0, 1.0], [NAN, NAN]])
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), requires_grad=True)
    known = ~labels.isnan()
    loss = masked_loss(logits, labels)
    assert torch.allclose(
        loss, functional.binary_cross_entropy_with_logits(logits[known], labels[known])
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, known)


def test_a_batch_without_a_known_outcome_teaches_nothing() -> None:
    logits = torch.ones(3, 2, requires_grad=True)
    loss = masked_loss(logits, torch.full((3, 2), NAN))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 2))  # type: ignore[arg-type]


# The order


def shares(labels: NDArray[np.float32], draws: int = 40_000) -> NDArray[np.float64]:
    """Share of the draws that each unit gets."""
    order = balanced_order(labels, draws, torch.Generator().manual_seed(1))
    assert order.shape == (draws,)
    return np.bincount(order, minlength=len(labels)) / draws


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)[:, None]


@pytest.mark.parametrize("positives", [1, 5, 25, 49])
def test_both_classes_are_drawn_alike_however_rare(positives: int) -> None:
    labels = column(*(float(i < positives) for i in range(50)))
    drawn = shares(labels)
    of_positives = drawn[:positives].sum()
    assert of_positives == pytest.approx(0.5, abs=0.01)  # four standard deviations
    assert drawn[:positives] == pytest.approx(0.5 / positives, abs=0.01)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_single_class_is_drawn_evenly(value: float) -> None:
    assert shares(column(*[value] * 4)) == pytest.approx(0.25, abs=0.01)


def test_units_without_a_known_outcome_are_not_drawn() -> None:
    assert shares(column(1, NAN, 0, 0, NAN)) == pytest.approx([0.5, 0, 0.25, 0.25, 0], abs=0.01)


def test_with_several_outcomes_a_unit_weighs_the_mean_over_its_known_ones() -> None:
    """One positive and three negatives of the first outcome, one and two of the second."""
    labels = np.array([[1, 1], [0, NAN], [0, 0], [0, 0], [NAN, NAN]], dtype=np.float32)
    weights = np.array([(1 + 1) / 2, 1 / 3, (1 / 3 + 1 / 2) / 2, (1 / 3 + 1 / 2) / 2, 0])
    assert shares(labels) == pytest.approx(weights / weights.sum(), abs=0.01)


def test_a_cohort_without_any_known_outcome_cannot_be_trained_on() -> None:
    with pytest.raises(ValueError, match="no unit has a known outcome"):
        balanced_order(np.full((3, 2), NAN, dtype=np.float32), 8, torch.Generator())


@given(st.integers(0, 2**31 - 1), st.integers(1, 40))
@settings(deadline=None)
def test_an_order_is_repeated_by_its_seed(seed: int, draws: int) -> None:
    labels = column(1, 0, 0, NAN, 1)
    first, again = (
        balanced_order(labels, draws, torch.Generator().manual_seed(seed)) for _ in range(2)
    )
    assert np.array_equal(first, again)
    assert len(first) == draws
    assert set(first.tolist()) <= {0, 1, 2, 4}


# The round


def after_a_round(seed: int, round_: int = 22) -> tuple[str, float]:
    net = network()
    figures = train_round(
        net, cohort(16), Schedule(RecipeSettings(), 30), round_, seed=seed, device=CPU
    )
    return digest(net.state_dict()), figures.loss


@pytest.mark.parametrize("round_", [0, 22])
def test_a_round_is_repeated_to_the_bit_by_its_seed(round_: int) -> None:
    first, again, other = (after_a_round(seed, round_) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_round_neither_depends_on_the_global_generator_nor_moves_it() -> None:
    trained = set()
    for state in (123, 321):
        net = network()
        torch.manual_seed(state)
        before = torch.get_rng_state()
        train_round(net, cohort(16), Schedule(RecipeSettings(), 30), 22, seed=1, device=CPU)
        assert torch.equal(before, torch.get_rng_state())
        trained.add(digest(net.state_dict()))
    assert len(trained) == 1


@pytest.mark.parametrize(("units", "epochs", "steps"), [(16, 1, 2), (17, 1, 3), (3, 4, 4)])
def test_a_round_is_local_epochs_over_the_sites_own_units(
    units: int, epochs: int, steps: int
) -> None:
    """A batch is always full, as it is drawn with replacement."""
    seen: list[tuple[int, int]] = []
    schedule = Schedule(RecipeSettings(local_epochs=epochs), 30)
    figures = train_round(
        network(),
        cohort(units),
        schedule,
        0,
        seed=1,
        device=CPU,
        progress=lambda *step: seen.append(step),
    )
    assert figures.steps == steps
    assert seen == [(step + 1, steps) for step in range(steps)]


def test_learning_rates_and_decay_are_the_recipes_at_every_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[dict[str, float]] = []
    decays: list[dict[str, float]] = []

    class Watched(torch.optim.AdamW):
        def step(self, *_: object) -> None:  # type: ignore[override]
            rates.append({g["block"]: g["lr"] for g in self.param_groups})
            decays.append({g["block"]: g["weight_decay"] for g in self.param_groups})

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    schedule = Schedule(RecipeSettings(), 30)
    for round_ in (3, 16):
        train_round(network(), cohort(16), schedule, round_, seed=1, device=CPU)
    assert rates == [
        {"head": 1e-3},
        {"head": 1e-3},
        *(
            {b: schedule.learning_rate(b, p) for b in ("layer3", "layer4", "head")}
            for p in (16.0, 16.5)
        ),
    ]
    assert rates[2]["layer3"] < rates[2]["layer4"] < rates[2]["head"]
    assert decays[0] == {"head": 1e-4}
    assert decays[-1] == {"head": 1e-5, "layer4": 1e-4, "layer3": 1e-4}


def test_the_first_step_is_that_of_a_loop_written_by_hand() -> None:
    """One step of the probe without dropout: AdamW on the head alone."""
    recipe = RecipeSettings(dropout=0.0, batch_size=8)
    examples, ours, theirs = cohort(8), network(), network()
    for net in (ours, theirs):
        net.fc.dropout = 0.0
    train_round(ours, examples, Schedule(recipe, 30), 0, seed=4, device=CPU)

    generator = torch.Generator().manual_seed(4)
    rows = balanced_order(examples.labels, 8, generator)
    images = torch.from_numpy(examples.images[rows]).float()[:, None]
    logits = theirs.eval()(augment(images, recipe.augmentation, generator))
    loss = functional.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(examples.labels[rows])
    )
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.AdamW(theirs.fc.parameters(), lr=1e-3, weight_decay=1e-4).step()
    assert torch.allclose(ours.fc.weight, theirs.fc.weight, atol=1e-7)
    assert torch.allclose(ours.fc.bias, theirs.fc.bias, atol=1e-7)


def test_an_easy_task_is_learnt_in_a_few_rounds() -> None:
    recipe = RecipeSettings.model_validate(
        {"preset": "full", "local_epochs": 2, "learning_rates": {"head": 2e-3, "backbone": 2e-3}}
    )
    schedule, examples, unseen = Schedule(recipe, 6), cohort(64), cohort(64, seed=1)
    net = network()
    losses = [
        train_round(net, examples, schedule, round_, seed=round_, device=CPU).loss
        for round_ in range(6)
    ]
    assert losses[-1] < losses[0]
    logits = score(net, unseen.images, device=CPU)
    assert roc_auc_score(unseen.labels[:, 0], logits[:, 0]) > 0.9


# Scores


def test_a_score_depends_on_the_image_alone() -> None:
    """Not on the batch it came in, nor on whether the network was just trained."""
    net, images = network(2).train(), cohort(7).images
    together = score(net, images, device=CPU)
    assert together.shape == (7, 2)
    assert together.dtype == np.float64
    one_by_one = score(net, images, device=CPU, batch_size=1)
    assert together == pytest.approx(one_by_one, rel=1e-4, abs=1e-4)
    assert np.array_equal(together, score(net, images, device=CPU))


def test_no_images_have_no_scores() -> None:
    empty = np.zeros((0, 32, 32), dtype=np.float16)
    assert score(network(3), empty, device=CPU).shape == (0, 3)
