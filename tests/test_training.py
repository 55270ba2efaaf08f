"""A round of training at a site: what is drawn, what is minimised, and that it can be repeated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from fedrad.models import training
from fedrad.models.augment import augment, cutmix
from fedrad.models.examples import Examples, Views
from fedrad.models.network import ResNet, digest
from fedrad.models.optimizer import Gradients, Targets, TooLittleMemoryError, masked_loss
from fedrad.models.schedule import Schedule, trainable_blocks
from fedrad.models.settings import ModelSettings, RecipeSettings
from fedrad.models.training import _mix, balanced_order, score, train_round

CPU = torch.device("cpu")
NARROW = ModelSettings(backbone="resnet18", width=0.125, weights="random", size=32)
NAN = float("nan")


def network(outputs: int = 1, seed: int = 2) -> ResNet:
    torch.manual_seed(seed)
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


def test_with_several_outcomes_a_unit_gathers_its_chances_in_each() -> None:
    """One positive and three negatives of the first outcome, one and one of the second."""
    labels = np.array([[1, 1], [0, NAN], [0, 0], [0, NAN], [NAN, NAN]], dtype=np.float32)
    expected = np.array([1 / 4 + 1 / 4, 1 / 12, 1 / 12 + 1 / 4, 1 / 12, 0])
    assert shares(labels) == pytest.approx(expected, abs=0.01)


tables = st.integers(1, 4).flatmap(
    lambda outcomes: st.lists(
        st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=outcomes, max_size=outcomes),
        min_size=1, max_size=30,
    )
)  # fmt: skip


@given(tables)
@settings(deadline=None, max_examples=60)
def test_every_class_of_every_outcome_has_its_part_of_the_draws(table: list[list[float]]) -> None:
    """However rare, and however many labels are missing: at least 1/(K·C), K being the outcomes
    that are known at all and C the classes of this one."""
    labels = np.array(table, dtype=np.float32)
    known = ~np.isnan(labels)
    if not known.any():
        return
    drawn = shares(labels, 20_000)
    outcomes = known.any(axis=0).sum()
    assert drawn[~known.any(axis=1)].sum() == 0
    for outcome in labels.T:
        classes = [outcome == value for value in (0, 1) if (outcome == value).any()]
        for of_class in classes:
            assert drawn[of_class].sum() > 1 / (outcomes * len(classes)) - 0.02


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


# CutMix


class Brightness(torch.nn.Module):
    """Stands for the frozen part: the mean of each image, so that what it saw can be told."""

    def of(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) / 1024


def mix(probability: float, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Targets]:
    """Images, labels, and what the trainable blocks and the loss are given."""
    examples = cohort(6)
    labels = torch.from_numpy(examples.labels)
    views = Views(examples, RecipeSettings(), CPU)
    images, generator = views.raw(np.arange(6)), torch.Generator().manual_seed(seed)
    inputs, targets = _mix(images, labels, views, Brightness(), probability, generator)  # type: ignore[arg-type]
    return images, labels, inputs, targets


def test_a_mixed_batch_is_learnt_with_both_labels_by_the_area_of_each() -> None:
    images, labels, inputs, ((first, share), (second, rest)) = mix(1.0, 4)
    generator = torch.Generator().manual_seed(4)
    torch.rand((), generator=generator)  # the draw that decides for CutMix
    mixed = cutmix(images, labels, generator)
    pasted = (mixed.images != images).any(0)[0]
    assert rest == pytest.approx(pasted.float().mean().item())
    assert (share, rest) == (mixed.share, 1 - mixed.share)
    assert 0 < share < 1
    assert torch.equal(first, labels)
    assert torch.equal(second, mixed.other_labels)
    assert torch.equal(inputs, Brightness().of(mixed.images))


def test_the_loss_of_two_labels_is_the_mean_by_their_share() -> None:
    net = network()
    net.fc.dropout = 0.0
    net.train_blocks(("head",), batchnorm_moves=False)
    inputs, labels = (
        torch.randn(6, net.fc.in_features),
        torch.tensor([0, 1, 1, 0, NAN, 1.0])[:, None],
    )
    targets = [(labels, 0.3), (labels.flip(0), 0.7)]
    loss = Gradients(net, ("head",), RecipeSettings()).compute(inputs, targets)
    logits = net.fc(inputs)
    expected = 0.3 * masked_loss(logits, labels) + 0.7 * masked_loss(logits, labels.flip(0))
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    found = net.fc.weight.grad.clone()  # type: ignore[union-attr]
    net.fc.weight.grad = None
    expected.backward()  # type: ignore[no-untyped-call]
    assert torch.allclose(found, net.fc.weight.grad, rtol=1e-5, atol=1e-8)  # type: ignore[arg-type]


def test_without_cutmix_the_labels_count_whole() -> None:
    images, labels, inputs, ((found, share),) = mix(0.0, 4)
    assert share == 1
    assert torch.equal(found, labels)
    assert torch.equal(inputs, Brightness().of(images))


def test_the_probe_is_trained_without_cutmix(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = []
    monkeypatch.setattr(training, "cutmix", lambda *given: mixed.append(1) or cutmix(*given))
    schedule = Schedule(RecipeSettings(cutmix=1.0), 30)
    train_round(network(), cohort(16), schedule, 9, seed=1, device=CPU)
    assert not mixed
    train_round(network(), cohort(16), schedule, 10, seed=1, device=CPU)
    assert len(mixed) == 2


# FedProx


def test_the_proximal_term_is_half_mu_times_the_squared_distance() -> None:
    """Loss and gradient beside the closed form μ/2·‖w - w₀‖² and μ·(w - w₀), Li et al. 2020."""
    net, inputs = network(), torch.randn(4, 64)
    net.fc.dropout = 0.0
    net.train_blocks(("head",), batchnorm_moves=False)
    targets = [(torch.tensor([[0.0], [1.0], [1.0], [NAN]]), 1.0)]
    received = net.fc.weight.detach().clone()
    plain, proximal = (Gradients(net, ("head",), RecipeSettings(proximal=mu)) for mu in (0.0, 0.3))
    assert proximal.compute(inputs, targets) == plain.compute(inputs, targets)  # not moved yet
    with torch.no_grad():
        net.fc.weight += 0.5 * torch.randn_like(received)
    without = plain.compute(inputs, targets)
    gradient = net.fc.weight.grad.clone()  # type: ignore[union-attr]
    moved = net.fc.weight.detach() - received
    expected = without + 0.3 / 2 * moved.square().sum().item()
    assert proximal.compute(inputs, targets) == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(net.fc.weight.grad, gradient + 0.3 * moved, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]


def test_a_strong_proximal_term_holds_a_site_by_what_it_received() -> None:
    def way(mu: float) -> float:
        net = network()
        before = {k: v.clone() for k, v in net.named_parameters()}
        recipe = RecipeSettings(preset="full", proximal=mu, local_epochs=20)
        train_round(net, cohort(32), Schedule(recipe, 10), 3, seed=1, device=CPU)
        return sum((v - before[k]).square().sum().item() for k, v in net.named_parameters()) ** 0.5

    assert way(10.0) < 0.7 * way(0.0)


# From round to round


@pytest.mark.parametrize("moments", ["reset", "keep"])
@pytest.mark.parametrize("batchnorm", ["shared", "frozen", "local"])
def test_a_resumed_training_gives_the_same_bits(
    tmp_path: Path, moments: str, batchnorm: str
) -> None:
    """Weights and moments through a file after every round, from the probe to the last stage."""
    recipe = RecipeSettings.model_validate({"moments": moments, "batchnorm": batchnorm})
    schedule, examples = Schedule(recipe, 6), cohort(16)
    straight, kept = network(), {}
    for round_ in range(6):
        kept = train_round(
            straight, examples, schedule, round_, seed=round_, device=CPU, moments=kept
        ).moments
    state = {k: v.clone() for k, v in network().state_dict().items()}
    save_file({}, tmp_path / "moments")
    for round_ in range(6):
        resumed = network(seed=9)
        resumed.load_state_dict(state)
        figures = train_round(
            resumed, examples, schedule, round_, seed=round_, device=CPU,
            moments=load_file(tmp_path / "moments"),
        )  # fmt: skip
        save_file(figures.moments, tmp_path / "moments")
        save_file({k: v.contiguous() for k, v in resumed.state_dict().items()}, tmp_path / "w")
        state = load_file(tmp_path / "w")
    assert digest(state) == digest(straight.state_dict())
    assert bool(figures.moments) == (moments == "keep")


def test_kept_moments_are_those_of_one_optimiser_over_both_rounds() -> None:
    """Two steps of one AdamW, written out by hand, are two rounds of a step with moments kept."""
    recipe = RecipeSettings(preset="probe", moments="keep", batch_size=8)
    examples, schedule = cohort(8), Schedule(recipe, 2)
    ours, theirs = network(), network()
    ours.fc.dropout = 0.0
    kept = {}
    for round_ in (0, 1):
        kept = train_round(
            ours, examples, schedule, round_, seed=round_, device=CPU, moments=kept
        ).moments
    theirs.to(memory_format=torch.channels_last).train_blocks(("head",), batchnorm_moves=True)
    optimizer = torch.optim.AdamW(theirs.fc.parameters(), lr=1e-3, weight_decay=1e-4)
    views = Views(examples, recipe, CPU)
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        rows = balanced_order(examples.labels, 8, generator)
        with torch.no_grad():
            features = theirs.features(views.draw(rows, generator))  # type: ignore[arg-type]
        optimizer.zero_grad()
        masked_loss(
            functional.linear(features, theirs.fc.weight, theirs.fc.bias), views.labels(rows)
        ).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert torch.allclose(ours.fc.weight, theirs.fc.weight, atol=1e-7)
    assert kept["probe/fc.weight/step"] == 2


def test_the_main_part_starts_with_moments_of_its_own() -> None:
    recipe = RecipeSettings(moments="keep")
    schedule, examples, net = Schedule(recipe, 30), cohort(8), network()
    moments = train_round(net, examples, schedule, 9, seed=1, device=CPU).moments
    assert set(moments) == {
        f"probe/fc.{of}/{kind}" for of in ("weight", "bias")
        for kind in ("step", "exp_avg", "exp_avg_sq")
    }  # fmt: skip
    moments = train_round(net, examples, schedule, 10, seed=1, device=CPU, moments=moments).moments
    assert moments["main/fc.weight/step"] == 1
    moments = train_round(net, examples, schedule, 12, seed=1, device=CPU, moments=moments).moments
    assert moments["main/fc.weight/step"] == 2
    assert moments["main/layer4.0.conv1.weight/step"] == 1  # thawed: fresh ones


# Memory


def short_of_memory(net: ResNet, room: int) -> None:
    """Make the last block raise what CUDA raises where more than `room` pictures come at once."""

    def raise_if_too_many(_: object, given: tuple[torch.Tensor]) -> None:
        if len(given[0]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    net.layer4.register_forward_pre_hook(raise_if_too_many)


def test_a_batch_that_does_not_fit_is_learnt_in_parts_and_that_is_said() -> None:
    """With frozen statistics and without dropout the gradients are those of the whole batch."""
    recipe = RecipeSettings(preset="full", batchnorm="frozen")
    whole, parts = network(), network()
    whole.fc.dropout = parts.fc.dropout = 0.0
    short_of_memory(parts, 2)
    figures = [
        train_round(net, cohort(8), Schedule(recipe, 30), 3, seed=1, device=CPU)
        for net in (whole, parts)
    ]
    assert figures[0].adjustments == ()
    assert "added up over 4 parts" in figures[1].adjustments[0]
    assert figures[1].loss == pytest.approx(figures[0].loss, rel=1e-5)
    for (name, one), two in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert torch.allclose(one, two, atol=3e-4), name  # Adam's first step is of size lr


def test_gradients_in_parts_are_those_of_the_whole_batch() -> None:
    """Also where parts hold different numbers of known labels, and with CutMix's two labels."""
    images = torch.from_numpy(cohort(8).images.astype(np.float32))[:, None]
    labels = torch.tensor([1, NAN, NAN, NAN, 0, 1, 0, 0.0])[:, None]
    found = []
    for room in (8, 2):
        net = network()
        net.fc.dropout = 0.0
        net.train_blocks(trainable_blocks("all"), batchnorm_moves=False)
        short_of_memory(net, room)
        loss = Gradients(net, trainable_blocks("all"), RecipeSettings(proximal=0.1)).compute(
            images, [(labels, 0.6), (labels.flip(0), 0.4)]
        )
        found.append((loss, [p.grad for p in net.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for whole, parts in zip(found[0][1], found[1][1], strict=True):
        assert whole is not None
        assert parts is not None
        assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-5 * whole.abs().max().item())


def test_statistics_of_a_pass_that_did_not_fit_are_undone() -> None:
    net, recipe = network(), RecipeSettings(preset="full")
    net.train_blocks(trainable_blocks("all"), batchnorm_moves=True)
    short_of_memory(net, 4)
    images = torch.from_numpy(cohort(8).images.astype(np.float32))[:, None]
    Gradients(net, trainable_blocks("all"), recipe).compute(images, [(torch.ones(8, 1), 1.0)])
    assert net.bn1.num_batches_tracked == 2  # two parts, and nothing of the failed pass


def test_a_device_that_holds_not_even_two_pictures_is_refused() -> None:
    net = network()
    short_of_memory(net, 1)
    with pytest.raises(TooLittleMemoryError, match=r"not even 2 pictures of 32 pixels fit"):
        train_round(
            net, cohort(8), Schedule(RecipeSettings(preset="full"), 30), 3, seed=1, device=CPU
        )


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
