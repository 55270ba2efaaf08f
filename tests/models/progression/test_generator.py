"""A generator that hospitals can train: its learning, its file, and the faults refused."""

import copy

import numpy as np
import pytest
import torch

from fedrad.models.examples import Examples
from fedrad.models.progression.generators import open_generator
from fedrad.models.progression.iteration import simulate_progression
from fedrad.models.progression.memorisation import memorisation, nearest_distances, sample_images
from fedrad.models.progression.network import (
    Denoiser,
    GeneratorRecord,
    load_generator,
    save_generator,
    start_generator,
)
from fedrad.models.progression.settings import GeneratorSettings
from fedrad.models.progression.training import denoising_losses, draw_batch, train_generator
from fedrad.models.settings import InputSettings, ModelSettings, ProgressionSettings
from fedrad.models.weight_files import WeightsError, file_sha256
from fedrad.models.weight_folders import add_weight_folder

CPU = torch.device("cpu")
SMALL = GeneratorSettings(channels=(8, 16), attention=(False, True), groups=4, batch_size=8)
RECORD = GeneratorRecord(
    name="test",
    experiment="0" * 64,
    input=InputSettings(size=32),
    outcomes=("bpd",),
    classes={"bpd": (True, True)},
    generator=SMALL,
)


def blobs(count=48, size=32, seed=0):
    """Pictures with a bright disc in the middle where the outcome is 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    disc = np.exp(-(x**2 + y**2) / (size / 5) ** 2)
    labels = (np.arange(count) % 2).astype(np.float32)
    images = -300 + 900 * disc * labels[:, None, None] + rng.normal(0, 40, (count, size, size))
    return Examples(images.astype(np.float16), labels[:, None])


def generator(settings=SMALL, outcomes=1, seed=0):
    torch.manual_seed(seed)
    return Denoiser(settings, outcomes, 32)


def moved(network):
    """Half of the convolutions start at zero, as published, and hide what is before them."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)


@pytest.fixture(scope="module")
def trained():
    network = generator(SMALL.model_copy(update={"local_epochs": 20, "learning_rate": 5e-3}))
    before = denoising_losses(network, blobs(seed=1), device=CPU)
    train_generator(network, blobs(), 0, 1, seed=1, device=CPU)
    return network, before


def test_training_lowers_the_loss_on_images_it_did_not_see(trained):
    network, before = trained
    after = denoising_losses(network, blobs(seed=1), device=CPU)
    assert after.shape == before.shape == (48,)
    assert after.mean() < 0.3 * before.mean()


def test_an_edit_towards_the_outcome_adds_what_the_outcome_looks_like(trained):
    healthy = blobs(8, seed=2).images[::2]
    settings = ProgressionSettings(images=4, steps=10, guidance=2, outside=0.75, mask="none")
    up, down = (
        simulate_progression(trained[0], healthy, np.array([to]), settings, device=CPU)
        for to in (1.0, 0.0)
    )
    middle = slice(14, 18)
    rise = up[:, :, middle, middle].mean(axis=(0, 2, 3))
    assert (rise[1:] - rise[0] > 300).all()
    assert (down[..., middle, middle].mean(axis=(0, 2, 3)) - rise[0] < 100).all()


def test_the_same_seed_trains_the_same_generator_to_the_bit():
    torch.set_num_threads(1)
    states = []
    for seed in (1, 1, 2):
        network = generator()
        train_generator(network, blobs(16), 0, 1, seed=seed, device=CPU)
        states.append(network.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_an_outcome_that_is_open_conditions_on_nothing():
    network = generator(outcomes=2)
    moved(network)
    z = torch.randn(1, 1, 32, 32)
    free = network.predict(z, 5, None)
    assert torch.equal(free, network.predict(z, 5, torch.full((1, 2), torch.nan)))
    batches = [
        network.predict(z, 5, torch.tensor([c]))
        for c in ([1.0, torch.nan], [0.0, torch.nan], [torch.nan, 1.0], [1.0, 1.0])
    ]
    for i, one in enumerate(batches):
        assert not torch.equal(one, free)
        assert all(not torch.equal(one, other) for other in batches[i + 1 :])


def test_one_local_step_at_each_site_is_a_step_along_the_pooled_gradient():
    """With plain gradient descent, Σ n_k (w - η·g_k) / n = w - η·∇(Σ n_k L_k / n)."""
    settings = SMALL.model_copy(update={"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 32})
    start = generator(settings)
    moved(start)
    sites = [blobs(24, seed=5), blobs(8, seed=6)]
    shares = [24 / 32, 8 / 32]
    averaged = {name: torch.zeros_like(p) for name, p in start.named_parameters()}
    pooled = copy.deepcopy(start)
    loss = torch.zeros(())
    for number, (site, share) in enumerate(zip(sites, shares, strict=True)):
        own = copy.deepcopy(start)
        figures = train_generator(own, site, 0, 1, seed=number, device=CPU)
        assert figures.steps == 1
        for name, parameter in own.named_parameters():
            averaged[name] += share * parameter.detach()
        from fedrad.models.training import balanced_order

        draws = torch.Generator().manual_seed(number)
        rows = balanced_order(site.labels, 32, draws)
        batch = draw_batch(pooled, site, rows, draws, CPU, hide=settings.unconditional)
        loss = loss + share * batch.loss(pooled)
    loss.backward()
    for name, parameter in pooled.named_parameters():
        torch.testing.assert_close(averaged[name], parameter - 0.1 * parameter.grad)


def test_a_generator_comes_back_from_its_file(tmp_path):
    network = generator()
    save_generator(tmp_path / "g.safetensors", network, RECORD, lineage="[]")
    again, record, metadata = load_generator(tmp_path / "g.safetensors")
    assert record == RECORD
    assert metadata["lineage"] == "[]"
    assert "simulated" in metadata["use"]
    z = torch.randn(1, 1, 32, 32)
    assert torch.equal(network.eval().predict(z, 5, None), again.predict(z, 5, None))


def test_a_generator_starts_from_an_earlier_one_of_the_same_outcomes_and_image(tmp_path):
    earlier = generator(seed=7)
    file = tmp_path / "g.safetensors"
    save_generator(file, earlier, RECORD)
    add_weight_folder(tmp_path)
    given = {"weights": file.name, "sha256": file_sha256(file)}
    start = start_generator(SMALL, ModelSettings(size=32, **given), ["bpd"], seed=0)
    state = earlier.state_dict()
    assert all(torch.equal(state[k], v) for k, v in start.network.state_dict().items())
    for settings, model, outcomes, why in (
        (SMALL, {"size": 64}, ["bpd"], "32 pixels"),
        (SMALL, {"size": 32}, ["edema"], "was trained on bpd"),
        (SMALL, {"size": 32, "fit": "crop"}, ["bpd"], "fit 'pad'"),
        (SMALL.model_copy(update={"channels": (8, 8)}), {"size": 32}, ["bpd"], "does not fit"),
    ):
        with pytest.raises(WeightsError, match=why):
            start_generator(settings, ModelSettings(**model, **given), outcomes, seed=0)


@pytest.mark.parametrize(
    ("outcome", "classes", "why"),
    [
        ("edema", (True, True), "not trained on 'edema'; it knows 'bpd'"),
        ("bpd", (False, True), "one class of it only"),
        ("bpd", (True, False), "one class of it only"),
    ],
)
def test_an_outcome_without_a_direction_is_refused(tmp_path, outcome, classes, why):
    record = RECORD.model_copy(update={"classes": {"bpd": classes}})
    save_generator(tmp_path / "g.safetensors", generator(), record)
    with pytest.raises(WeightsError, match=why):
        open_generator(tmp_path / "g.safetensors").condition(outcome)


def test_a_condition_names_one_outcome_and_leaves_the_others_open(tmp_path):
    outcomes = ("a", "b", "c")
    record = RECORD.model_copy(
        update={"outcomes": outcomes, "classes": dict.fromkeys(outcomes, (True, True))}
    )
    save_generator(tmp_path / "g.safetensors", generator(outcomes=3), record)
    opened = open_generator(tmp_path / "g.safetensors")
    np.testing.assert_array_equal(opened.condition("b"), [np.nan, 1, np.nan])
    np.testing.assert_array_equal(opened.condition("c", present=False), [np.nan, np.nan, 0])


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_a_latent_is_the_image_itself(patch):
    network = generator(SMALL.model_copy(update={"patch": patch}))
    images = torch.from_numpy(blobs(2).images.astype(np.float32))[:, None]
    latents = network.encode(images)
    assert latents.shape == (2, patch**2, 32 // patch, 32 // patch)
    assert torch.equal(network.decode(latents), images)


def test_an_image_that_cannot_be_halved_is_refused():
    with pytest.raises(WeightsError, match="multiple of 4"):
        Denoiser(GeneratorSettings(), 1, 62)


def test_a_file_that_is_no_generator_is_refused(tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="no generator"):
        load_generator(file)
    save_file({"a": torch.zeros(1)}, file, {"generator": "{}"})
    with pytest.raises(WeightsError, match="garbled"):
        load_generator(file)
    other = RECORD.model_copy(update={"reading_chain": 1})
    save_generator(file, generator(), other)
    with pytest.raises(WeightsError, match="reading chain"):
        load_generator(file)


def test_a_copied_image_is_seen_as_memorised_and_a_new_one_is_not():
    training, held_out, new = (blobs(40, seed=s).images for s in (1, 2, 3))
    copied = memorisation(training[:8] + np.float16(1), training, held_out)
    assert copied.near == 1.0
    assert copied.nearest < 2
    fresh = memorisation(new, training, held_out)
    assert fresh.near < 0.3
    assert abs(fresh.samples - fresh.held_out) < 5
    assert "expected are 5 %" in str(fresh)
    assert memorisation(new, training, training[:0]) is None


def test_the_nearest_image_is_that_of_brute_force():
    training, other = blobs(70, seed=1).images, blobs(5, seed=2).images
    differences = training.astype(float)[None] - other.astype(float)[:, None]
    expected = np.sqrt((differences**2).mean(axis=(2, 3))).min(axis=1)
    np.testing.assert_allclose(nearest_distances(other, training), expected, rtol=1e-4)


def test_samples_are_images_of_the_asked_outcome(trained):
    bright, dark = (
        sample_images(trained[0], 6, seed=1, device=CPU, condition=np.array([c]), guidance=2.0)
        for c in (1.0, 0.0)
    )
    assert bright.shape == (6, 32, 32)
    assert np.abs(bright).max() <= 1024
    assert bright[:, 14:18, 14:18].mean() > dark[:, 14:18, 14:18].mean() + 150
