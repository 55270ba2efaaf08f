"""The model zoo's generator: a small checkpoint with the published layout."""

import json

import numpy as np
import pytest
import torch
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from safetensors.torch import save_file

from fedrad.models.progression.generators import open_generator
from fedrad.models.progression.iteration import simulate_progression
from fedrad.models.progression.monai_zoo import load_zoo
from fedrad.models.settings import ProgressionSettings
from fedrad.models.weight_files import WeightsError

CPU = torch.device("cpu")
AUTOENCODER = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 3,
    "channels": [8, 16, 16, 16],
    "num_res_blocks": 2,
    "norm_num_groups": 8,
    "norm_eps": 1e-6,
    "attention_levels": [False] * 4,
    "with_encoder_nonlocal_attn": False,
    "with_decoder_nonlocal_attn": False,
}
UNET = {
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 3,
    "channels": [16, 32, 48],
    "num_res_blocks": 2,
    "attention_levels": [False, True, True],
    "norm_num_groups": 8,
    "num_head_channels": [0, 32, 48],
    "with_conditioning": True,
    "transformer_num_layers": 1,
    "cross_attention_dim": 24,
}
SCHEDULER = {
    "num_train_timesteps": 1000,
    "schedule": "scaled_linear_beta",
    "beta_start": 0.0015,
    "beta_end": 0.0205,
    "prediction_type": "v_prediction",
    "clip_sample": False,
}


def as_published_by_generative_models(state):
    """Names of the tensors in the package that the checkpoint was made with."""
    return {
        name.replace("out_proj.", "to_out.0.").replace("postconv", "conv"): value
        for name, value in state.items()
    }


def write_bundle(folder, *, old_names=True, ending="pt", unet=None, **config):
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    torch.manual_seed(0)
    nets = {
        "autoencoder": AutoencoderKL(**AUTOENCODER),
        "diffusion_model": DiffusionModelUNet(**UNET),
    }
    for name, net in nets.items():
        with torch.no_grad():  # convolutions that start at zero hide the prompts
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
        state = net.state_dict()
        state = as_published_by_generative_models(state) if old_names else state
        torch.save(state, folder / "models" / f"{name}.{ending}")
    whole = {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "latent": 3,
        "autoencoder_def": {"_target_": "monai.networks.nets.AutoencoderKL", **AUTOENCODER},
        "network_def": {
            "_target_": "monai.networks.nets.DiffusionModelUNet",
            **UNET,
            "in_channels": "@latent",
            **(unet or {}),
        },
        "autoencoder": "$@autoencoder_def.to(@device)",
        "scheduler": {"_target_": "monai.networks.schedulers.DDIMScheduler", **SCHEDULER},
        **config,
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(whole))
    pred = {"spatial_shape": [64, 64]}
    about = {"network_data_format": {"outputs": {"pred": pred}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(about))
    prompts = {n: torch.randn(7, 24) for n in ("unconditional", "effusion", "no effusion", "edema")}
    save_file(prompts, folder / "prompts.safetensors")
    return nets


@pytest.mark.parametrize(("old_names", "ending"), [(True, "pt"), (False, "pth")])
def test_the_networks_are_those_of_the_checkpoint(tmp_path, old_names, ending):
    nets = write_bundle(tmp_path / "zoo", old_names=old_names, ending=ending)
    generator, pictures = load_zoo(tmp_path / "zoo")
    assert (pictures.size, pictures.fit, generator.prediction) == (64, "crop", "v")
    assert generator.outcomes == ["edema", "effusion"]
    images = torch.rand(2, 1, 64, 64) * 2048 - 1024
    with torch.no_grad():
        mean, _ = nets["autoencoder"].eval().encode((images / 1024 + 1) / 2)
        z = generator.encode(images)
        torch.testing.assert_close(z, 0.3 * mean)
        assert z.shape == (2, 3, 8, 8)
        for name, condition in (
            ("unconditional", None),
            ("edema", [1.0, torch.nan]),
            ("no effusion", [torch.nan, 0.0]),
        ):
            asked = None if condition is None else torch.tensor([condition, condition])
            context = generator.prompts[name].expand(2, 7, 24)
            expected = nets["diffusion_model"].eval()(z, torch.tensor([9, 9]), context=context)
            torch.testing.assert_close(generator.predict(z, 9, asked), expected)


def test_it_edits_an_image(tmp_path):
    write_bundle(tmp_path / "zoo")
    opened = open_generator(tmp_path / "zoo")
    images = np.random.default_rng(0).uniform(-500, 500, (2, 64, 64))
    settings = ProgressionSettings(images=2, steps=4, mask="none")
    edited = simulate_progression(
        opened.generator, images, opened.condition("edema"), settings, device=CPU
    )
    assert edited.shape == (2, 3, 64, 64)
    assert np.isfinite(edited).all()
    assert np.abs(edited).max() <= 1024
    with pytest.raises(WeightsError, match="no direction away from 'edema'"):
        opened.condition("edema", present=False)
    assert opened.condition("effusion", present=False)[1] == 0
    with pytest.raises(WeightsError, match="one outcome each"):
        simulate_progression(opened.generator, images, np.array([1.0, 1.0]), settings, device=CPU)


def without(path):
    return lambda folder: (folder / path).unlink()


def truncated(path):
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:-30])


def other_prompts(folder):
    save_file(
        {"unconditional": torch.zeros(7, 9), "edema": torch.zeros(7, 9)},
        folder / "prompts.safetensors",
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without("configs/inference.json"), "inference.json cannot be read"),
        (without("models/diffusion_model.pt"), "get the whole bundle"),
        (truncated("models/autoencoder.pt"), "no readable state dict"),
        (truncated("configs/metadata.json"), "metadata.json cannot be read"),
        (without("prompts.safetensors"), "progression.md"),
        (other_prompts, r"must hold 'unconditional' .* \(tokens, 24\)"),
    ],
)
def test_a_damaged_folder_is_refused_and_the_file_named(tmp_path, change, why):
    write_bundle(tmp_path / "zoo")
    change(tmp_path / "zoo")
    with pytest.raises(WeightsError, match=why):
        load_zoo(tmp_path / "zoo")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"unet": {"channels": "$__import__('os').system('false')"}}, "only literals are read"),
        ({"unet": {"channels": [16, 32, 64], "num_head_channels": [0, 32, 64]}}, "does not fit"),
        ({"unet": {"colour": 3}}, "MONAI builds no DiffusionModelUNet"),
        ({"autoencoder_def": {"_target_": "os.system"}}, "describes no AutoencoderKL"),
        ({"scheduler": {"_target_": "x.DDIMScheduler"}}, "schedule of noise"),
    ],
)
def test_a_configuration_that_is_another_is_refused(tmp_path, changes, why):
    write_bundle(tmp_path / "zoo", **changes)
    with pytest.raises(WeightsError, match=why):
        load_zoo(tmp_path / "zoo")


def test_a_pickle_with_code_is_not_run(tmp_path):
    write_bundle(tmp_path / "zoo")

    class Code:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"a": Code()}, tmp_path / "zoo" / "models" / "autoencoder.pt")
    with pytest.raises(WeightsError, match="no readable state dict"):
        load_zoo(tmp_path / "zoo")
