"""Editing of images, with generators that are formulas with known results."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.schedulers import DDIMScheduler
from pydantic import ValidationError

from fedrad.models.optimizer import TooLittleMemoryError
from fedrad.models.progression.iteration import guided, simulate_progression
from fedrad.models.progression.noise import NoiseSchedule
from fedrad.models.progression.settings import NoiseSettings
from fedrad.models.settings import ProgressionSettings

CPU = torch.device("cpu")
NOISE = NoiseSchedule(NoiseSettings())
PREDICTIONS = ("epsilon", "v", "sample")
EVERYTHING = ProgressionSettings(images=6, steps=10, outside=0.75, mask="none")
rng = np.random.default_rng(0)
IMAGES = rng.uniform(-500, 500, (3, 16, 16)).astype(np.float32)
ONE = np.array([1.0])


class Oracle:
    """Predicts the image that the current edit started from, plus δ."""

    prediction = "sample"
    clip = None
    noise = NOISE

    def __init__(self, delta=0.0):
        self.delta = delta

    def encode(self, images):
        self.clean = images / 1024
        return self.clean

    def decode(self, latents):
        return latents * 1024

    def predict(self, latents, t, condition):
        return self.clean + self.delta


class BrighteningGenerator(Oracle):
    """Predicts a mixture of the latents and a bright image, which depends on the condition."""

    def __init__(self, prediction="sample"):
        self.prediction = prediction

    def predict(self, latents, t, condition):
        towards = 0.0 if condition is None else condition.nan_to_num().view(-1, 1, 1, 1)
        return 0.9 * latents + 0.1 * towards


class Forgetful(BrighteningGenerator):
    """Has memory for two images."""

    def predict(self, latents, t, condition):
        if len(latents) > 2:
            raise torch.OutOfMemoryError
        return super().predict(latents, t, condition)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@given(t=st.integers(0, 999), seed=st.integers(0, 99))
def test_a_network_that_knows_the_noise_recovers_the_image_in_one_step(prediction, t, seed):
    draw = torch.Generator().manual_seed(seed)
    x, noise = (torch.randn(2, 1, 4, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    noised = NOISE.add(x, noise, t)
    output = NOISE.target(x, noise, t, prediction)
    torch.testing.assert_close(NOISE.step(noised, output, t, -1, prediction), x)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_an_oracle_recovers_the_image_from_pure_noise(prediction):
    draw = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(2, 3, 8, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    z = noise
    for t, previous in NOISE.levels(20, 20):
        signal, spread = NOISE.factors(t, z)
        believed = (z - signal * x) / spread
        z = NOISE.step(z, NOISE.target(x, believed, t, prediction), t, previous, prediction)
    torch.testing.assert_close(z, x)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_step_is_monais_where_monais_levels_agree(prediction):
    monais = DDIMScheduler(
        1000,
        schedule="scaled_linear_beta",
        clip_sample=False,
        beta_start=0.0015,
        beta_end=0.0205,
        prediction_type="v_prediction" if prediction == "v" else prediction,
    )
    monais.set_timesteps(50)
    draw = torch.Generator().manual_seed(1)
    x, output = (torch.randn(2, 1, 8, 8, generator=draw) for _ in range(2))
    for t, previous in NOISE.levels(50, 50):
        theirs, _ = monais.step(output, t, x)
        ours = NOISE.step(x, output, t, previous, prediction)
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def test_levels_lead_from_each_to_the_next_and_to_the_image():
    pairs = list(NOISE.levels(50, 25))
    assert len(pairs) == 25
    assert pairs[0] == (499, 479)
    assert pairs[-1] == (19, -1)
    assert [previous for _, previous in pairs[:-1]] == [t for t, _ in pairs[1:]]
    odd = list(NOISE.levels(7, 3))
    assert odd == [(428, 285), (285, 142), (142, -1)]
    with pytest.raises(ValueError, match="steps"):
        list(NOISE.levels(5, 6))


def test_the_velocity_is_that_of_its_definition():
    draw = torch.Generator().manual_seed(2)
    x, noise = (torch.randn(4, 1, 2, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 10, 500, 999])
    signal, spread = NOISE.factors(t, x)
    torch.testing.assert_close(signal**2 + spread**2, torch.ones_like(signal))
    # The velocity is the noised image, turned by a quarter in the plane of image and noise.
    velocity, noised = NOISE.target(x, noise, t, "v"), NOISE.add(x, noise, t)
    torch.testing.assert_close(signal * noised - spread * velocity, x)
    torch.testing.assert_close(spread * noised + signal * velocity, noise)


@pytest.mark.parametrize(("beta", "delta"), [(0.75, 0.1), (0.5, -0.2), (1.0, 0.03)])
def test_a_constant_edit_follows_the_closed_form(beta, delta):
    """d_n = β(d_{n-1} + δ), so increments decay as βⁿ."""
    settings = EVERYTHING.model_copy(update={"outside": beta, "inside": beta})
    edited = simulate_progression(Oracle(delta), IMAGES, ONE, settings, device=CPU)
    distances = (edited - edited[:, :1]).mean(axis=(0, 2, 3)) / 1024
    expected = [0.0]
    for _ in range(settings.images):
        expected.append(beta * (expected[-1] + delta))
    np.testing.assert_allclose(distances, expected, atol=2e-6)
    limit = sum(beta**k for k in range(1, settings.images + 1)) * delta
    np.testing.assert_allclose(distances[-1], limit, atol=2e-6)


def test_ten_published_edits_come_to_2_83_deltas():
    settings = ProgressionSettings(images=10, steps=4, mask="none")
    edited = simulate_progression(Oracle(0.05), IMAGES, ONE, settings, device=CPU)
    np.testing.assert_allclose((edited[:, 10] - edited[:, 0]) / 1024 / 0.05, 2.83, atol=0.002)


def test_without_blending_the_original_comes_back_exactly():
    settings = EVERYTHING.model_copy(update={"outside": 0.0, "inside": 0.0})
    edited = simulate_progression(BrighteningGenerator(), IMAGES, ONE, settings, device=CPU)
    assert (edited == IMAGES[:, None]).all()


def test_an_empty_region_changes_nothing_beyond_beta_1():
    nothing = np.zeros((16, 16))
    settings = ProgressionSettings(images=5, steps=10, outside=0.0)
    assert (
        simulate_progression(
            BrighteningGenerator(), IMAGES, ONE, settings, device=CPU, mask=nothing
        )
        == IMAGES[:, None]
    ).all()
    published = ProgressionSettings(images=5, steps=10)
    edited = simulate_progression(Oracle(0.1), IMAGES, ONE, published, device=CPU, mask=nothing)
    np.testing.assert_allclose((edited[:, 1] - IMAGES) / 1024, 0.001, atol=1e-6)
    np.testing.assert_allclose((edited[:, 5] - IMAGES) / 1024, 0.001 / 0.99, atol=1e-6)


def test_what_is_outside_the_region_stays_put_and_what_is_inside_moves():
    mask = np.zeros((16, 16), np.float32)
    mask[4:12, 4:12] = 1
    edited = simulate_progression(
        Oracle(0.1),
        IMAGES,
        ONE,
        EVERYTHING.model_copy(update={"outside": 0.0}),
        device=CPU,
        mask=mask,
    )
    moved = np.abs(edited - edited[:, :1])
    assert (moved[:, :, mask == 0] == 0).all()
    assert moved[:, 1:, mask == 1].min() > 0.07 * 1024


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_same_seed_gives_the_same_trajectory_and_another_seed_another(prediction):
    first, again = (
        simulate_progression(BrighteningGenerator(prediction), IMAGES, ONE, EVERYTHING, device=CPU)
        for _ in range(2)
    )
    other = simulate_progression(
        BrighteningGenerator(prediction),
        IMAGES,
        ONE,
        EVERYTHING.model_copy(update={"seed": 1}),
        device=CPU,
    )
    assert (first == again).all()
    assert (first != other).any()


def test_a_trajectory_does_not_depend_on_its_batch_or_order():
    whole = simulate_progression(BrighteningGenerator(), IMAGES, ONE, EVERYTHING, device=CPU)
    single = simulate_progression(
        BrighteningGenerator(),
        IMAGES[::-1],
        ONE,
        EVERYTHING.model_copy(update={"batch": 1}),
        device=CPU,
    )
    np.testing.assert_allclose(whole, single[::-1], atol=1e-3)


def test_too_little_memory_means_smaller_batches_and_a_log_line(caplog):
    caplog.set_level("WARNING", logger="fedrad.models")
    edited = simulate_progression(Forgetful(), IMAGES, ONE, EVERYTHING, device=CPU)
    np.testing.assert_allclose(
        edited,
        simulate_progression(BrighteningGenerator(), IMAGES, ONE, EVERYTHING, device=CPU),
        atol=1e-3,
    )
    assert "edited 2 at once" in caplog.text


class Hopeless(Oracle):
    def predict(self, latents, t, condition):
        raise torch.OutOfMemoryError


def test_no_memory_for_one_image_is_refused():
    with pytest.raises(TooLittleMemoryError, match="another device"):
        simulate_progression(Hopeless(), IMAGES, ONE, EVERYTHING, device=CPU)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"mask is \(8, 8\)"):
        simulate_progression(Oracle(), IMAGES, ONE, EVERYTHING, device=CPU, mask=np.ones((8, 8)))


def test_guidance_goes_beyond_the_condition():
    generator, z, condition = BrighteningGenerator(), torch.zeros(1, 1, 2, 2), torch.ones(1, 1)
    values = [float(guided(generator, z, 5, condition, g).mean()) for g in (0, 1, 3)]
    np.testing.assert_allclose(values, [0.0, 0.1, 0.3], atol=1e-7)


def test_the_defaults_are_the_published_ones():
    published = ProgressionSettings()
    assert (published.images, published.strength, published.steps, published.edit_steps) == (
        10,
        0.5,
        50,
        25,
    )
    assert (published.guidance, published.outside, published.inside) == (7.5, 0.01, 0.75)


def test_an_edit_of_no_step_is_refused():
    with pytest.raises(ValidationError, match="less than one denoising step"):
        ProgressionSettings(strength=0.01, steps=10)
