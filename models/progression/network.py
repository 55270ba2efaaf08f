"""A class-conditional generator of chest radiographs, small enough to train at hospitals."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationError
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.nn import functional

from fedrad.models.network import digest
from fedrad.models.settings import READING_CHAIN, InputSettings, ModelSettings, Settings
from fedrad.models.weight_files import WeightsError, find_weights, read_safetensors
from fedrad.models.weights import StartingNetwork, mismatches
from fedrad.system.files import write_whole

from .noise import NoiseSchedule
from .settings import GeneratorSettings, PredictionTarget

RECORD = "generator"
"""Metadata key of a generator's record, as JSON, in its file."""


class GeneratorRecord(Settings):
    """The description that a generator needs besides its weights and its lineage."""

    format: Literal[1] = 1
    name: str
    """Name of the experiment that trained it."""
    experiment: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Identity of that experiment."""
    input: InputSettings
    reading_chain: int = READING_CHAIN
    outcomes: Annotated[tuple[str, ...], Field(min_length=1)]
    classes: dict[str, tuple[bool, bool]]
    """Outcome -> whether training had patients without it, and patients with it."""
    generator: GeneratorSettings
    use: str = "simulated pictures for research only; not a medical device"


class Denoiser(nn.Module):
    """MONAI's DiffusionModelUNet on pixels, conditioned on K outcomes; a `DiffusionGenerator`.

    Each specified outcome adds an embedding for its class to that of the noise level; an outcome
    that is not specified adds nothing. The latents are the image in [-1, 1], with patches of
    `patch`² pixels as channels: (N, patch², S/patch, S/patch).
    """

    clip: float | None = 1.0

    def __init__(self, settings: GeneratorSettings, outcomes: int, size: int) -> None:
        from monai.networks.nets import DiffusionModelUNet  # takes seconds

        super().__init__()
        if size % settings.factor:
            raise WeightsError(
                f"model.size = {size} does not divide into generator.patch and levels: give a "
                f"multiple of {settings.factor}, or fewer generator.channels"
            )
        self.settings, self.outcomes, self.size = settings, outcomes, size
        self.prediction: PredictionTarget = settings.prediction
        self.noise = NoiseSchedule(settings.noise)
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=settings.patch**2,
            out_channels=settings.patch**2,
            channels=settings.channels,
            attention_levels=settings.attention,
            num_res_blocks=settings.res_blocks,
            norm_num_groups=settings.groups,
            num_head_channels=settings.channels,
            num_class_embeds=1,
        )
        self.unknown_index = 2 * outcomes
        self.unet.class_embedding = nn.EmbeddingBag(
            self.unknown_index + 1,
            4 * settings.channels[0],
            mode="sum",
            padding_idx=self.unknown_index,
        )

    def forward(self, noised: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """The network's output for noised latents, at levels `t` (N,) and under outcomes (N, K) in
        {0, 1} or NaN; it has the shape of the latents."""
        known = 2 * torch.arange(self.outcomes, device=condition.device) + condition.nan_to_num()
        labels = torch.where(condition.isnan(), self.unknown_index, known).long()
        output: Tensor = self.unet(noised, t, class_labels=labels)
        return output

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 1, S, S) in [-1024, 1024] -> latents in [-1, 1]."""
        latents: Tensor = functional.pixel_unshuffle(images / 1024, self.settings.patch)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Latents in [-1, 1] -> images in [-1024, 1024]."""
        images: Tensor = functional.pixel_shuffle(latents, self.settings.patch) * 1024
        return images

    def predict(self, latents: Tensor, t: int, condition: Tensor | None) -> Tensor:
        """See `DiffusionGenerator.predict`."""
        levels = torch.full((len(latents),), t, device=latents.device)
        if condition is None:
            condition = torch.full((len(latents), self.outcomes), torch.nan, device=latents.device)
        return self.forward(latents, levels, condition)


def start_generator(
    settings: GeneratorSettings, model: ModelSettings, outcomes: list[str], *, seed: int
) -> StartingNetwork:
    """The generator that training starts from: random, or read from an earlier generator's file.

    Parameters
    ----------
    settings
        Architecture and training of the generator.
    model
        Its pictures, and the file to start from, or "random".
    outcomes
        The outcomes that it is conditioned on.
    seed
        Seed of random weights.

    Raises
    ------
    WeightsError
        If the file is missing, or has another hash, shape or other outcomes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Denoiser(settings, len(outcomes), model.size)
    metadata: Mapping[str, str] = {}
    description = f"random generator (seed {seed})"
    if model.weights != "random":
        path = find_weights(model)
        earlier, record, metadata = load_generator(path)
        if record.outcomes != tuple(outcomes):
            raise WeightsError(
                f"{path.name} was trained on {', '.join(record.outcomes)}, the experiment's "
                f"outcomes are {', '.join(outcomes)}"
            )
        require_same_input(record, model.input, path.name)
        _fill(network, earlier.state_dict(), path.name)
        description = path.name
    return StartingNetwork(network, digest(network.state_dict()), description, metadata)


def require_same_input(record: GeneratorRecord, input_: InputSettings, file: str) -> None:
    """Raise WeightsError if a generator's pictures are not those of `input_`. `file` names it."""
    if record.input != input_:
        raise WeightsError(
            f"{file} makes pictures of {_words(record.input)}; asked for are {_words(input_)}"
        )


def save_generator(path: Path, network: Denoiser, record: GeneratorRecord, **more: str) -> None:
    """Write a generator as safetensors, with its record and `more` (the lineage) as metadata."""
    metadata = {RECORD: record.model_dump_json(), "use": record.use, **more}
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_whole(path, serialize(tensors, metadata))


def load_generator(path: Path) -> tuple[Denoiser, GeneratorRecord, dict[str, str]]:
    """A generator in evaluation mode, its record and its metadata.

    Raises WeightsError if the file is no generator, is damaged, or was made for another version of
    the reading chain.
    """
    tensors, metadata = read_safetensors(path)
    if RECORD not in metadata:
        raise WeightsError(
            f"{path.name} is no generator: give model.safetensors of an experiment with task = "
            '"progression", or a folder of the MONAI model zoo'
        )
    try:
        record = GeneratorRecord.model_validate_json(metadata[RECORD])
    except ValidationError as error:
        faults = "; ".join(e["msg"] for e in error.errors())
        raise WeightsError(f"{path.name}: its record is garbled ({faults})") from error
    if record.reading_chain != READING_CHAIN:
        raise WeightsError(
            f"{path.name}: was trained with version {record.reading_chain} of the reading chain, "
            f"this fedrad has {READING_CHAIN} and would show it other pictures"
        )
    network = Denoiser(record.generator, len(record.outcomes), record.input.size)
    _fill(network, tensors, path.name)
    network.eval()
    return network, record, metadata


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], file: str) -> None:
    if wrong := mismatches(network.state_dict(), tensors):
        raise WeightsError(f"{file} does not fit the generator: {wrong}")
    network.load_state_dict(dict(tensors))


def _words(input_: InputSettings) -> str:
    return f"{input_.size} pixels, fit {input_.fit!r}, region {input_.region!r}"
