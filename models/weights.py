"""Base weights: loading them into an experiment's network, and writing trained networks.

Missing or unsuitable weights are an error; they are never replaced by random weights.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from fedrad.system.files import write_whole

from .network import ResNet, digest
from .settings import ModelSettings
from .weight_files import GET_AGAIN, WeightsError, find_weights, read_pickle, read_safetensors

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class StartingNetwork:
    """A network that training starts from.

    Attributes
    ----------
    digest
        Identifies the weights; SHA-256.
    description
        A phrase on their origin, for people.
    metadata
        Metadata of their file.
    """

    network: nn.Module
    digest: str
    description: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BaseWeights(StartingNetwork):
    """A network with base weights and a fresh head for the experiment's outcomes.

    Attributes
    ----------
    network
        Backbone from the base weights, head drawn from the seed. `digest` identifies the backbone.
    outputs
        Names of the outputs of the base weights themselves.
    head
        Weight and bias of the head for `outputs`; None if the file has none.
    """

    network: ResNet
    outputs: tuple[str, ...] = ()
    head: tuple[Tensor, Tensor] | None = None

    def as_model(self, outcomes: list[str], base_outputs: Mapping[str, str]) -> ResNet | None:
        """The base model with its own head, to be evaluated on the experiment's outcomes.

        Parameters
        ----------
        outcomes
            Outcomes of the experiment, K.
        base_outputs
            Outcome -> output of the base weights that means the same.

        Returns
        -------
        ResNet | None
            A network with K outputs; logits of an outcome without an output are NaN. None if
            `base_outputs` is empty.

        Raises
        ------
        WeightsError
            If an output does not exist.
        """
        if not base_outputs:
            return None
        if self.head is None:
            raise WeightsError("base_outputs is set, but the base weights have no head")
        settings = self.network.settings
        model = ResNet(settings, len(outcomes))
        model.load_state_dict(self.network.state_dict())
        weight, bias = (torch.full_like(t, torch.nan) for t in (model.fc.weight, model.fc.bias))
        for index, outcome in enumerate(outcomes):
            if outcome in base_outputs:
                output = base_outputs[outcome]
                if output not in self.outputs:
                    raise WeightsError(
                        f"base_outputs.{outcome} = {output!r}: the base weights have "
                        f"{', '.join(map(repr, self.outputs))}"
                    )
                row = self.outputs.index(output)
                weight[index], bias[index] = self.head[0][row], self.head[1][row]
        model.fc.load_state_dict({"weight": weight, "bias": bias})
        model.eval()
        return model


def load_base(
    settings: ModelSettings, outcomes: int, *, seed: int, dropout: float = 0.1
) -> BaseWeights:
    """Build the network and put the named base weights into it.

    Parameters
    ----------
    settings
        The network, and the weights that it starts from.
    outcomes
        Number of outputs, K.
    seed
        Seed of the fresh head, and of all weights if they are random.
    dropout
        Share of the features that the head drops in training, in [0, 1).

    Returns
    -------
    BaseWeights
        The network with a fresh head, and the metadata of the weights' file.

    Raises
    ------
    WeightsError
        If the file is missing, has another hash, or holds tensors that do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResNet(settings, outcomes, dropout)
    if settings.weights == "random":
        _expect_radiographs(network)
        return BaseWeights(network, _backbone_digest(network), f"random weights (seed {seed})")
    path = find_weights(settings)
    tensors, metadata = _read(settings, path)
    outputs = _outputs(metadata, path.name)
    head = None
    if {"fc.weight", "fc.bias"} <= tensors.keys():
        head = (tensors.pop("fc.weight"), tensors.pop("fc.bias"))
        if len(outputs) != len(head[1]):
            outputs = ()
    _fit(network, tensors, path.name)
    description = metadata.get("description", path.name)
    return BaseWeights(network, _backbone_digest(network), description, metadata, outputs, head)


def _expect_radiographs(network: ResNet) -> None:
    """Set the running variance of the first normalisation for inputs in [-1024, 1024].

    Such inputs have a standard deviation of about 512. With the usual variance of 1, a frozen
    random stem would put out values in the thousands.
    """
    energy = network.conv1.weight.detach().square().sum(dim=(1, 2, 3))
    network.bn1.register_buffer("running_var", 512.0**2 * energy)


def save(path: Path, network: ResNet, *, outputs: list[str], description: str, **more: str) -> None:
    """Write a network as safetensors, with the metadata that are needed to build it again.

    Parameters
    ----------
    path
        The file; it is written completely or not at all.
    network
        The network, with its head.
    outputs
        Names of its outputs, in their order.
    description
        A phrase on the weights, for people.
    more
        Further metadata.
    """
    metadata = {
        "backbone": network.settings.backbone,
        "width": repr(network.settings.width),
        "size": str(network.settings.size),
        "input": "1 channel, float in [-1024, 1024]",
        "outputs": json.dumps(outputs),
        "description": description,
        "use": "research use only; not a medical device",
        **more,
    }
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_whole(path, serialize(tensors, metadata))


def read_model(path: Path, like: ResNet) -> ResNet:
    """Read a network that `save` wrote; `like` has its shape. Raises WeightsError."""
    network = copy.deepcopy(like)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise WeightsError(f"{path.name} cannot be loaded: {error}") from error
    return network


def _read(settings: ModelSettings, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a weights file; keys of the metadata as in `save`."""
    if settings.weights == "imagenet":
        state = read_pickle(path, str(settings.sha256))
        tensors = {k: v for k, v in state.items() if not k.startswith("fc.")}
        first, behind = tensors.get("conv1.weight"), tensors.get("bn1.running_mean")
        if first is None or behind is None or first.shape[1:2] != (3,):
            raise WeightsError(f"{path.name} is no ResNet for colour images: {GET_AGAIN}")
        description = f"ImageNet weights of torchvision ({path.name})"
        return _grey_from_colour(tensors), {"description": description}
    if settings.weights == "resnet50-res512-all":
        import torchxrayvision

        labels = torchxrayvision.models.model_urls[settings.weights]["labels"]
        state = read_pickle(path, str(settings.sha256))
        tensors = {k.removeprefix("model."): v for k, v in state.items()}
        tensors.pop("op_threshs", None)
        description = f"torchxrayvision {settings.weights} ({path.name})"
        return tensors, {"description": description, "outputs": json.dumps(list(labels))}
    tensors, metadata = read_safetensors(path)
    for key, wanted in (("backbone", settings.backbone), ("width", repr(settings.width))):
        if metadata.get(key, wanted) != wanted:
            raise WeightsError(
                f"{path.name} holds {key} = {metadata[key]}, the experiment asks for {wanted}: "
                f"change model.{key}, or pin another file"
            )
    return tensors, metadata


def _outputs(metadata: Mapping[str, str], file: str) -> tuple[str, ...]:
    try:
        return tuple(json.loads(metadata.get("outputs", "[]")))
    except (ValueError, TypeError) as error:
        raise WeightsError(
            f"{file}: names of outputs are garbled ({error}): {GET_AGAIN}"
        ) from error


def _grey_from_colour(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert a first convolution for ImageNet-normalised colour to grey in [-1024, 1024].

    A grey value x is the colour (g, g, g) with g = (x/1024 + 1)/2, normalised to (g - mean)/std.
    The factor goes into the summed kernel, and the constant into the running mean of the
    normalisation after it. The outputs are the same, except at the padded border.
    """
    kernel = tensors["conv1.weight"]  # (64, 3, 7, 7)
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    constant = (kernel * (0.5 - mean) / std).sum(dim=(1, 2, 3))
    return {
        **tensors,
        "conv1.weight": (kernel * 0.5 / std / 1024).sum(dim=1, keepdim=True),
        "bn1.running_mean": tensors["bn1.running_mean"] - constant,
    }


def load_tensors(network: ResNet, tensors: Mapping[str, Tensor], file: str) -> None:
    """Load all tensors of an exported model into its network, with those of the head.

    Parameters
    ----------
    network
        Network built from the model's record.
    tensors
        Tensors by name.
    file
        Name of the file, for the error.

    Raises
    ------
    WeightsError
        If tensors are missing, unknown or of another shape; the text names them.
    """
    if wrong := mismatches(network.state_dict(), tensors):
        raise WeightsError(
            f"{file} is not the {network.settings.backbone} of width {network.settings.width} "
            f"that it says it is: {wrong}. Export the model again"
        )
    network.load_state_dict(tensors, strict=False)


def _fit(network: ResNet, tensors: dict[str, Tensor], file: str) -> None:
    """Load all tensors of the backbone. Raises WeightsError, which names those that do not fit."""
    if wrong := mismatches(_backbone(network), tensors):
        raise WeightsError(
            f"{file} does not fit {network.settings.backbone} of width {network.settings.width}: "
            f"{wrong}. Change [model], or pin the file it asks for"
        )
    network.load_state_dict(tensors, strict=False)


def mismatches(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Tensors that are missing, unknown or of another shape, in words; "" if all fit."""
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    wrong = [
        *(f"{k} is missing" for k in sorted(own.keys() - given.keys() - counters)),
        *(f"{k} is unknown" for k in sorted(given.keys() - own.keys())),
        *(
            f"{k} is {tuple(given[k].shape)} instead of {tuple(own[k].shape)}"
            for k in sorted(own.keys() & given.keys())
            if own[k].shape != given[k].shape
        ),
    ]
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return "; ".join(wrong[:3]) + more


def _backbone(network: ResNet) -> dict[str, Tensor]:
    return {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}


def _backbone_digest(network: ResNet) -> str:
    return digest(
        {k: v for k, v in _backbone(network).items() if not k.endswith("num_batches_tracked")}
    )
