"""A round of training at a site: its draws, its loss, and its reproducibility."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from support.training import CPU, NAN, cohort, network
from torch.nn import functional

from fedrad.models.augment import augment
from fedrad.models.examples import Views
from fedrad.models.network import ResNet, digest
from fedrad.models.optimizer import Gradients, TooLittleMemoryError, masked_loss
from fedrad.models.schedule import Schedule, trainable_blocks
from fedrad.models.settings import RecipeSettings
from fedrad.models.streams import Streams
from fedrad.models.training import balanced_order, score, train_round

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

    rows = balanced_order(examples.labels, 8, torch.Generator().manual_seed(4))
    images = torch.from_numpy(examples.images[rows]).float()[:, None]
    logits = theirs.eval()(augment(images, recipe.augmentation, Streams(4)))
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


# From round to round


@pytest.mark.parametrize("moments", ["reset", "keep"])
@pytest.mark.parametrize("batchnorm", ["shared", "frozen", "local"])
def test_a_resumed_training_gives_the_same_bits(
    tmp_path: Path, moments: str, batchnorm: str
) -> None:
    """Weights and moments through a file after every round, from the probe to the last stage."""
    recipe = RecipeSettings.model_validate({"moments": moments, "batchnorm": batchnorm})
    schedule, examples = Schedule(recipe, 6), cohort(16)
    straight, last_moments = network(), {}
    for round_ in range(6):
        last_moments = train_round(
            straight, examples, schedule, round_, seed=round_, device=CPU, moments=last_moments
        ).moments
    state = {k: v.clone() for k, v in network().state_dict().items()}
    save_file({}, tmp_path / "moments")
    for round_ in range(6):
        resumed = network(seed=9)
        resumed.load_state_dict(state)
        figures = train_round(
            resumed,
            examples,
            schedule,
            round_,
            seed=round_,
            device=CPU,
            moments=load_file(tmp_path / "moments"),
        )
        save_file(figures.moments, tmp_path / "moments")
        save_file({k: v.contiguous() for k, v in resumed.state_dict().items()}, tmp_path / "w")
        state = load_file(tmp_path / "w")
    assert digest(state) == digest(straight.state_dict())
    assert bool(figures.moments) == (moments == "keep")


def test_kept_moments_are_those_of_one_optimiser_over_both_rounds() -> None:
    """Two steps of one AdamW, by hand, equal two rounds of one step with `moments = "keep"`."""
    recipe = RecipeSettings(preset="probe", moments="keep", batch_size=8)
    examples, schedule = cohort(8), Schedule(recipe, 2)
    ours, theirs = network(), network()
    ours.fc.dropout = 0.0
    last_moments = {}
    for round_ in (0, 1):
        last_moments = train_round(
            ours, examples, schedule, round_, seed=round_, device=CPU, moments=last_moments
        ).moments
    theirs.to(memory_format=torch.channels_last).train_blocks(("head",), batchnorm_moves=True)
    optimizer = torch.optim.AdamW(theirs.fc.parameters(), lr=1e-3, weight_decay=1e-4)
    views = Views(examples, recipe, CPU)
    for seed in (0, 1):
        rows = balanced_order(examples.labels, 8, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            drawn, labels = views.draw(rows, Streams(seed))
            features = theirs.features(drawn)  # type: ignore[arg-type]
        optimizer.zero_grad()
        masked_loss(
            functional.linear(features, theirs.fc.weight, theirs.fc.bias), labels
        ).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert torch.allclose(ours.fc.weight, theirs.fc.weight, atol=1e-7)
    assert last_moments["probe/fc.weight/step"] == 2


def test_the_main_part_starts_with_moments_of_its_own() -> None:
    recipe = RecipeSettings(moments="keep")
    schedule, examples, net = Schedule(recipe, 30), cohort(8), network()
    moments = train_round(net, examples, schedule, 9, seed=1, device=CPU).moments
    assert set(moments) == {
        f"probe/fc.{of}/{kind}"
        for of in ("weight", "bias")
        for kind in ("step", "exp_avg", "exp_avg_sq")
    }
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


def test_a_batch_that_does_not_fit_is_trained_on_in_parts_and_that_is_reported() -> None:
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
    results = []
    for room in (8, 2):
        net = network()
        net.fc.dropout = 0.0
        net.train_blocks(trainable_blocks("all"), batchnorm_moves=False)
        short_of_memory(net, room)
        loss = Gradients(net, trainable_blocks("all"), RecipeSettings(proximal=0.1)).compute(
            images, [(labels, 0.6), (labels.flip(0), 0.4)]
        )
        results.append((loss, [p.grad for p in net.parameters()]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for whole, parts in zip(results[0][1], results[1][1], strict=True):
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
