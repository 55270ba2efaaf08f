"""The MONAI model zoo's chest-radiograph latent diffusion model, from a local folder.

The folder is the bundle `cxr_image_synthesis_latent_diffusion_model` (Pinaya et al., Apache-2.0)
as published, together with `prompts.safetensors`. This file holds the output of the bundle's text
encoder for a sentence on each outcome, so that a site needs neither the encoder nor the internet.

    configs/inference.json, configs/metadata.json    networks, schedule, size of the picture
    models/autoencoder.pt, models/diffusion_model.pt (or .pth)
    prompts.safetensors    "unconditional", "OUTCOME", perhaps "no OUTCOME": (tokens, width) each

Only literals are read from the configuration; no code in the folder is run.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fedrad.models.settings import InputSettings
from fedrad.models.weight_files import WeightsError, read_safetensors, unpickle

from .noise import NoiseSchedule
from .settings import NoiseSettings, PredictionTarget

LATENT_SCALE = 0.3
"""Factor of the latents (the bundle's `scale_factor`)."""

UNCONDITIONAL = "unconditional"
"""Name of the prompt without condition, which guidance needs: the encoding of an empty sentence."""

_PREDICTIONS: dict[str, PredictionTarget] = {
    "v_prediction": "v",
    "epsilon": "epsilon",
    "sample": "sample",
}


class ZooGenerator(nn.Module):
    """Autoencoder and text-conditioned UNet of the bundle; a `DiffusionGenerator`.

    A condition can specify one outcome only. `prompts` maps names to encodings (tokens, width);
    `outcomes` are in the order of a condition.
    """

    clip: float | None = None

    def __init__(
        self,
        autoencoder: nn.Module,
        unet: nn.Module,
        noise: NoiseSchedule,
        prediction: PredictionTarget,
        prompts: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.autoencoder, self.unet = autoencoder, unet
        self.noise, self.prediction = noise, prediction
        self.prompts = dict(prompts)
        self.outcomes = sorted(n for n in prompts if n != UNCONDITIONAL and not n.startswith("no "))

    def encode(self, images: Tensor) -> Tensor:
        """The mean of the autoencoder's distribution, so that latents are not random."""
        mean: Tensor = self.autoencoder.encode((images / 1024 + 1) / 2)[0]  # type: ignore[operator]
        return mean * LATENT_SCALE

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> images in [-1024, 1024]."""
        decoded: Tensor = self.autoencoder.decode(latents / LATENT_SCALE)  # type: ignore[operator]
        return (decoded.clamp(0, 1) * 2 - 1) * 1024

    def predict(self, latents: Tensor, t: int, condition: Tensor | None) -> Tensor:
        """See `DiffusionGenerator.predict`; a condition must specify one outcome or none."""
        names = [UNCONDITIONAL] * len(latents) if condition is None else map(self._name, condition)
        context = torch.stack([self.prompts[name] for name in names]).to(latents)
        levels = torch.full((len(latents),), t, device=latents.device)
        output: Tensor = self.unet(latents, timesteps=levels, context=context)
        return output

    def _name(self, condition: Tensor) -> str:
        known = (~condition.isnan()).nonzero().flatten().tolist()
        if not known:
            return UNCONDITIONAL
        if len(known) > 1:
            raise WeightsError("the generator's prompts name one outcome each: ask for one")
        outcome = self.outcomes[known[0]]
        return outcome if condition[known[0]] else f"no {outcome}"


def load_zoo(folder: Path) -> tuple[ZooGenerator, InputSettings]:
    """The generator in a folder, in evaluation mode, and the settings of its pictures.

    Raises WeightsError if a file is missing or damaged, if weights do not fit, or if there is no
    prompt.
    """
    config, metadata = (_json(folder / "configs" / f"{n}.json") for n in ("inference", "metadata"))
    try:
        size = int(metadata["network_data_format"]["outputs"]["pred"]["spatial_shape"][-1])
        pictures = InputSettings(size=size, fit="crop")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder}/configs/metadata.json does not say how large its pictures are ({error})"
        ) from error
    from monai.networks.nets import AutoencoderKL, DiffusionModelUNet  # takes seconds

    autoencoder = _network(folder, config, AutoencoderKL, "autoencoder")
    unet = _network(folder, config, DiffusionModelUNet, "diffusion_model")
    noise, prediction = _schedule(folder, config)
    width = literal_arguments(config, "DiffusionModelUNet", folder).get("cross_attention_dim")
    generator = ZooGenerator(autoencoder, unet, noise, prediction, _prompts(folder, width))
    generator.eval()
    return generator, pictures


def literal_arguments(config: Mapping[str, Any], target: str, folder: Path) -> dict[str, Any]:
    """The arguments that a bundle's configuration gives to the class named `target`.

    These are literals, and references (`@name`) to literals in the same configuration. Raises
    WeightsError for anything else. `folder` is used in errors.
    """
    definition = next(
        (c for c in _parts(config) if str(c["_target_"]).endswith(f".{target}")), None
    )
    if definition is None:
        raise WeightsError(
            f"{folder}/configs/inference.json describes no {target}: it is not the model zoo's "
            "cxr_image_synthesis_latent_diffusion_model"
        )

    def literal(value: Any) -> Any:
        if isinstance(value, list):
            return [literal(part) for part in value]
        if isinstance(value, str) and value[:1] == "@" and value[1:] in config:
            return literal(config[value[1:]])
        if isinstance(value, str) and value[:1] in ("@", "$", "%"):
            raise WeightsError(
                f"{folder}/configs/inference.json: {value!r} for {target} would have to be run, "
                "and only literals are read: write the value in its place"
            )
        return value

    return {k: literal(v) for k, v in definition.items() if k != "_target_"}


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    values = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict) and "_target_" in config:
        yield config
    for value in values:
        if isinstance(value, dict | list):
            yield from _parts(value)


def _network(
    folder: Path, config: Mapping[str, Any], kind: type[nn.Module], stem: str
) -> nn.Module:
    settings = literal_arguments(config, kind.__name__, folder)
    try:
        network = kind(**settings)
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder}/configs/inference.json: MONAI builds no {kind.__name__} of it ({error})"
        ) from error
    places = [folder / "models" / f"{stem}{ending}" for ending in (".pt", ".pth")]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise WeightsError(f"{places[0]} (or .pth) is not there: get the whole bundle")
    state = unpickle(file)
    try:
        if state.keys() == network.state_dict().keys():
            network.load_state_dict(state)
        else:  # published under the names of MONAI's earlier package GenerativeModels
            network.load_old_state_dict(dict(state))  # type: ignore[operator]
    except (KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{file} does not fit the {kind.__name__} of its configuration ({error})"
        ) from error
    return network


def _schedule(folder: Path, config: Mapping[str, Any]) -> tuple[NoiseSchedule, PredictionTarget]:
    given = literal_arguments(config, "DDIMScheduler", folder)
    try:
        settings = NoiseSettings(
            steps=given["num_train_timesteps"],
            schedule=str(given["schedule"]).removesuffix("_beta"),  # type: ignore[arg-type]
            beta_start=given["beta_start"],
            beta_end=given["beta_end"],
        )
        return NoiseSchedule(settings), _PREDICTIONS[given["prediction_type"]]
    except (KeyError, ValidationError) as error:
        raise WeightsError(
            f"{folder}/configs/inference.json: a schedule of noise that is not known ({error})"
        ) from error


def _prompts(folder: Path, width: int | None) -> dict[str, Tensor]:
    file = folder / "prompts.safetensors"
    if not file.is_file():
        raise WeightsError(
            f"{file} is not there: the text encoder's answers to {UNCONDITIONAL!r} and to each "
            "outcome's sentence, computed once; docs/progression.md says how"
        )
    prompts, _ = read_safetensors(file)
    shapes = {tuple(prompt.shape) for prompt in prompts.values()}
    if (
        UNCONDITIONAL not in prompts
        or len(prompts) < 2
        or len(shapes) != 1
        or min(shapes)[-1] != width
    ):
        raise WeightsError(
            f"{file} holds {', '.join(sorted(prompts)) or 'nothing'} of shape "
            f"{', '.join(map(str, shapes))}; it must hold {UNCONDITIONAL!r} and a prompt for each "
            f"outcome, all (tokens, {width})"
        )
    return {name: prompt.float() for name, prompt in prompts.items()}


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file} cannot be read ({error}): get the whole bundle") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{file} is no configuration: get the whole bundle")
    return content
