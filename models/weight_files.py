"""Files of base weights: searched by name, checked by SHA-256, read as tensors only.

An experiment downloads nothing; only `fedrad weights pin` calls `fetch`. Published weights are
pickles. Such a file is unpickled once, as tensors only, and stored in the cache as safetensors,
which hold no code. The pinned SHA-256 stays that of the published file.
"""

import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fedrad.system.errors import UserError
from fedrad.system.files import replacing, write_whole
from fedrad.system.folders import make_folder

from .settings import ModelSettings
from .weight_folders import cache_folder, torchxrayvision_folder, weight_folders

log = logging.getLogger("fedrad.models")

PUBLISHED = ("resnet50-res512-all", "imagenet")
"""Weights known by name; all others are safetensors files."""

GET_AGAIN = "get the file again from where it is published and pin it (`fedrad weights pin`)"


class WeightsError(UserError):
    """Base weights are missing, are not those that were pinned, or do not fit the network."""


def find_weights_file(name: str, sha256_: str, what: str, more: Sequence[Path] = ()) -> Path:
    """Find a file in the folders of weights.

    Parameters
    ----------
    name
        Name of the file, without a folder.
    sha256_
        Its SHA-256, hexadecimal.
    what
        Key of the experiment that names the file, for the error.
    more
        Further folders to look into.

    Returns
    -------
    Path
        The file with this hash.

    Raises
    ------
    WeightsError
        If there is no such file, or only one with another hash.
    """
    places = [folder / name for folder in (*weight_folders(), *more)]
    there = [place for place in places if place.is_file()]
    if match := next((place for place in there if file_sha256(place) == sha256_), None):
        return match
    raise WeightsError(
        f"{what} {name} with SHA-256 {sha256_} "
        + (f"is not {there[0]}, which is another file" if there else "was not found")
        + f": put it into {places[0].parent} (or name its folder in FEDRAD_WEIGHTS)"
    )


def find_weights(settings: ModelSettings) -> Path:
    """Find the file of the named weights and check its SHA-256. Raises WeightsError."""
    name = file_name(settings)
    places = [folder / name for folder in weight_folders()]
    if settings.weights == "resnet50-res512-all":
        places.append(torchxrayvision_folder() / name)
    if settings.sha256 is None:
        raise WeightsError(
            f'weights "{settings.weights}" are not pinned: run `fedrad weights pin '
            f"{settings.weights}` to write their SHA-256 into the experiment file"
        )
    hashes = {place: file_sha256(place) for place in places if place.is_file()}
    for place, hash_ in hashes.items():
        if hash_ == settings.sha256:
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
    if settings.weights in PUBLISHED:
        return _url(settings).rsplit("/", 1)[1]
    return Path(settings.weights).name


def fetch(settings: ModelSettings) -> Path:
    """Download published weights into the cache unless they are there. Returns the file.

    Raises WeightsError if the download fails; its text names the folder to put the file into.
    """
    target = cache_folder() / file_name(settings)
    if target.is_file():
        return target
    make_folder(target.parent)
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


def read_pickle(path: Path, source_sha256: str) -> dict[str, Tensor]:
    """Read the tensors of a published state dict, which is unpickled only the first time.

    The first call writes `converted/SHA256.safetensors` into the cache: the same tensors and names,
    with name and hash of the original as metadata, and a file with its own hash beside it. Later
    calls read that file if both hashes are right; otherwise they write it again.

    Parameters
    ----------
    path
        The published file.
    source_sha256
        Its SHA-256, hexadecimal.

    Returns
    -------
    dict[str, Tensor]
        Tensors by name.

    Raises
    ------
    WeightsError
        If the file holds anything but named tensors.
    """
    target = cache_folder() / "converted" / f"{source_sha256}.safetensors"
    own_hash = target.with_suffix(".sha256")
    if target.is_file() and own_hash.is_file():
        try:
            with safe_open(target, "pt") as file:
                origin = (file.metadata() or {}).get("source_sha256")
            if (origin, file_sha256(target)) == (source_sha256, own_hash.read_text().strip()):
                return dict(load_file(target))
        except (SafetensorError, OSError, UnicodeDecodeError):
            pass
        log.warning("%s is damaged: made again from %s", target, path)
    tensors = {k: v.detach().clone().contiguous() for k, v in unpickle(path).items()}
    try:
        make_folder(target.parent)
        with replacing(target) as temporary:
            save_file(tensors, temporary, {"source": path.name, "source_sha256": source_sha256})
            write_whole(own_hash, file_sha256(temporary) + "\n")
    except (OSError, SafetensorError) as error:
        log.warning("%s cannot be kept as safetensors (%s): unpickled at every start", path, error)
    return tensors


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata of a safetensors file. Raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return dict(load_file(path)), dict(metadata)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path.name} is no readable safetensors file ({error}): {GET_AGAIN}"
        ) from error


def _url(settings: ModelSettings) -> str:
    if settings.weights == "imagenet":
        weights = torchvision.models.get_model_weights(settings.backbone)
        return str(weights.DEFAULT.url)
    import torchxrayvision

    return str(torchxrayvision.models.model_urls[settings.weights]["weights_url"])


def unpickle(path: Path) -> dict[str, Tensor]:
    """Unpickle a PyTorch state dict, as tensors only: a pickle could run code otherwise."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, and its texts advise to run the code
        kind = type(error).__name__
        raise WeightsError(
            f"{path.name} is no readable state dict of tensors ({kind}): {GET_AGAIN}"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in tensors.items()
    ):
        raise WeightsError(f"{path.name} holds more than named tensors: {GET_AGAIN}")
    return tensors
