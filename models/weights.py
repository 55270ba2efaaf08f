"""Base weights: found by name, checked by SHA-256, loaded as tensors only.

Nothing is downloaded on the way into an experiment: `fetch` is called by `fedrad weights pin`
alone. Weights that are absent or differ are an error, never random weights instead.
"""

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .network import ResNet, digest
from .settings import ModelSettings

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_GET_AGAIN = "get the file again from where it is published and pin it (`fedrad weights pin`)"


class WeightsError(Exception):
    """Base weights are missing, are not those that were pinned, or do not fit the network."""


@dataclass(frozen=True)
class Base:
    """Base weights put into a network of the experiment's outcomes.

    `network` has a fresh head drawn from the seed; `digest` identifies its backbone; `outputs`
    names the outputs the weights came with, whose head (weight, bias) is `head`.
    """

    network: ResNet
    digest: str
    description: str
    outputs: tuple[str, ...] = ()
    head: tuple[Tensor, Tensor] | None = None

    def as_model(self, outcomes: list[str], base_outputs: Mapping[str, str]) -> ResNet | None:
        """The base model itself, for outcomes mapped to outputs it came with; the logits of an
        unmapped outcome are NaN. None where no outcome is mapped.

        Raises WeightsError where a mapped output does not exist.
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


def load_base(settings: ModelSettings, outcomes: int, *, seed: int, dropout: float = 0.1) -> Base:
    """Build the network and put the named base weights into it.

    Raises WeightsError: file missing or of another hash, or tensors that do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResNet(settings, outcomes, dropout)
    if settings.weights == "random":
        _expect_radiographs(network)
        return Base(network, _backbone_digest(network), f"random weights (seed {seed})")
    path = find(settings)
    tensors, outputs, description = _read(settings, path)
    head = None
    if {"fc.weight", "fc.bias"} <= tensors.keys():
        head = (tensors.pop("fc.weight"), tensors.pop("fc.bias"))
        if len(outputs) != len(head[1]):
            outputs = ()
    _fit(network, tensors, path.name)
    return Base(network, _backbone_digest(network), description, outputs, head)


def _expect_radiographs(network: ResNet) -> None:
    """Give the first normalisation of a random network the variance that an input in
    [-1024, 1024] (standard deviation about 512) has behind its convolution: with the usual 1, a
    frozen stem would pass on values of thousands."""
    energy = network.conv1.weight.detach().square().sum(dim=(1, 2, 3))
    network.bn1.register_buffer("running_var", 512.0**2 * energy)


def folders() -> list[Path]:
    """Folders in which weights are looked for: those of $FEDRAD_WEIGHTS (separated as in PATH),
    then the user's cache."""
    named = [Path(p) for p in os.environ.get("FEDRAD_WEIGHTS", "").split(os.pathsep) if p]
    return [*named, cache_folder()]


def look_in(folder: Path) -> None:
    """Look for weights in a folder too, before all others, in this process and its children."""
    named = [str(folder.resolve()), os.environ.get("FEDRAD_WEIGHTS", "")]
    os.environ["FEDRAD_WEIGHTS"] = os.pathsep.join(filter(None, named))


def cache_folder() -> Path:
    """Where fetched weights are kept: `$XDG_CACHE_HOME/fedrad/weights`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "fedrad" / "weights"


def find(settings: ModelSettings) -> Path:
    """The file of the named weights, its SHA-256 checked. Raises WeightsError."""
    name = file_name(settings)
    places = [folder / name for folder in folders()]
    if settings.weights == "resnet50-res512-all":  # torchxrayvision's own cache
        places.append(Path.home() / ".torchxrayvision" / "models_data" / name)
    if settings.sha256 is None:
        raise WeightsError(
            f'weights "{settings.weights}" are not pinned: run `fedrad weights pin '
            f"{settings.weights}` to write their SHA-256 into the experiment file"
        )
    hashes = {place: file_sha256(place) for place in places if place.is_file()}
    for place, found in hashes.items():
        if found == settings.sha256:
            return place
    if hashes:
        raise WeightsError(
            f"{name} has SHA-256 {next(iter(hashes.values()))}, the experiment asks for "
            f"{settings.sha256}: get the coordinator's file, or pin this one in the experiment"
        )
    raise WeightsError(
        f'weights "{settings.weights}" not found: put the file {name} with SHA-256 '
        f"{settings.sha256} into {places[0].parent} (or name its folder in FEDRAD_WEIGHTS)"
    )


def file_name(settings: ModelSettings) -> str:
    """Name of the file that holds the named weights."""
    if settings.weights in ("resnet50-res512-all", "imagenet"):
        return _url(settings).rsplit("/", 1)[1]
    return Path(settings.weights).name


def fetch(settings: ModelSettings) -> Path:
    """Download published weights into the cache unless they are there. Returns the file.

    Raises WeightsError where they cannot be had, saying where to put the file by hand.
    """
    target = cache_folder() / file_name(settings)
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(_url(settings), str(target))
    except OSError as error:
        raise WeightsError(
            f'weights "{settings.weights}" could not be downloaded ({error}): fetch the file '
            f"{target.name} on another machine and put it into {target.parent}"
        ) from error
    return target


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        total = sha256()
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()


def save(path: Path, network: ResNet, *, outputs: list[str], description: str, **more: str) -> None:
    """Write a network as safetensors, with what a reader needs to rebuild it as metadata."""
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
    temporary = path.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, temporary, metadata)
    temporary.replace(path)


def read_model(path: Path, like: ResNet) -> ResNet:
    """A network written by `save`, of the shape of another. Raises WeightsError."""
    network = copy.deepcopy(like)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise WeightsError(f"{path.name} cannot be loaded: {error}") from error
    return network


def _url(settings: ModelSettings) -> str:
    if settings.weights == "imagenet":
        weights = torchvision.models.get_model_weights(settings.backbone)
        return str(weights.DEFAULT.url)
    import torchxrayvision

    return str(torchxrayvision.models.model_urls[settings.weights]["weights_url"])


def _read(settings: ModelSettings, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...], str]:
    """Tensors, names of the outputs and a description of a weights file."""
    if settings.weights == "imagenet":
        tensors = {k: v for k, v in _load_pickle(path).items() if not k.startswith("fc.")}
        first, behind = tensors.get("conv1.weight"), tensors.get("bn1.running_mean")
        if first is None or behind is None or first.shape[1:2] != (3,):
            raise WeightsError(f"{path.name} is no ResNet for colour images: {_GET_AGAIN}")
        return _grey_from_colour(tensors), (), f"ImageNet weights of torchvision ({path.name})"
    if settings.weights == "resnet50-res512-all":
        import torchxrayvision

        labels = torchxrayvision.models.model_urls[settings.weights]["labels"]
        tensors = {k.removeprefix("model."): v for k, v in _load_pickle(path).items()}
        tensors.pop("op_threshs", None)
        return tensors, tuple(labels), f"torchxrayvision {settings.weights} ({path.name})"
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        outputs = tuple(json.loads(metadata.get("outputs", "[]")))
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path.name} is no readable safetensors file ({error}): {_GET_AGAIN}"
        ) from error
    for key, wanted in (("backbone", settings.backbone), ("width", repr(settings.width))):
        if metadata.get(key, wanted) != wanted:
            raise WeightsError(
                f"{path.name} holds {key} = {metadata[key]}, the experiment asks for {wanted}: "
                f"change model.{key}, or pin another file"
            )
    return tensors, outputs, metadata.get("description", path.name)


def _load_pickle(path: Path) -> dict[str, Tensor]:
    """A PyTorch state dict, unpickled as tensors only (a pickle may otherwise run code)."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, and advises to run the code
        kind = type(error).__name__
        raise WeightsError(
            f"{path.name} is no readable state dict of tensors ({kind}): {_GET_AGAIN}"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in tensors.items()
    ):
        raise WeightsError(f"{path.name} holds more than named tensors: {_GET_AGAIN}")
    return tensors


def _grey_from_colour(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make a first convolution for ImageNet-normalised colour take [-1024, 1024] grey.

    A grey value x stands for the colour (g, g, g), g = (x/1024 + 1)/2, normalised to
    (g - mean)/std. The factor goes into the summed kernel and the constant into the running mean
    of the normalisation behind it, so both give the same (but for the padded border).
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


def _fit(network: ResNet, tensors: dict[str, Tensor], file: str) -> None:
    """Put all backbone tensors into the network, or say which differ."""
    own = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    wrong = [
        *(f"{k} is missing" for k in sorted(own.keys() - tensors.keys() - counters)),
        *(f"{k} is unknown" for k in sorted(tensors.keys() - own.keys())),
        *(
            f"{k} is {tuple(tensors[k].shape)} instead of {tuple(own[k].shape)}"
            for k in sorted(own.keys() & tensors.keys())
            if own[k].shape != tensors[k].shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(
            f"{file} does not fit {network.settings.backbone} of width {network.settings.width}: "
            f"{'; '.join(wrong[:3])}{more}. Change [model], or pin the file it asks for"
        )
    network.load_state_dict(tensors, strict=False)


def _backbone_digest(network: ResNet) -> str:
    return digest(
        {
            k: v
            for k, v in network.state_dict().items()
            if not k.startswith("fc.") and not k.endswith("num_batches_tracked")
        }
    )
