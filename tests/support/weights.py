"""Small weight files with the published layouts, in an otherwise empty cache."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn

from fedrad.models.network import ResNet
from fedrad.models.settings import ModelSettings
from fedrad.models.weight_files import WeightsError, file_sha256
from fedrad.models.weights import load_base

XRV_FILE = "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt"
IMAGENET_FILE = "resnet18-f37072fd.pth"
NARROW: dict[str, Any] = {"backbone": "resnet18", "width": 0.125, "size": 32}


def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder in which weights lie; no home, no cache and no network besides."""
    place = tmp_path / "weights"
    place.mkdir()
    monkeypatch.setenv("FEDRAD_WEIGHTS", str(place))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    return place


def no_network(*_: object, **__: object) -> None:
    raise URLError("no route to host")


def seen_images(network: nn.Module) -> nn.Module:
    """Give a network running statistics as if it had been trained."""
    generator = torch.Generator().manual_seed(9)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def pinned(path: Path, **more: Any) -> ModelSettings:
    return ModelSettings.model_validate({"sha256": file_sha256(path), **more})


def narrow(path: Path, **more: Any) -> ModelSettings:
    return pinned(path, weights=path.name, **{**NARROW, **more})


def of_file(path: Path) -> ModelSettings:
    if path.name == XRV_FILE:
        return pinned(path)
    if path.name == IMAGENET_FILE:
        return pinned(path, weights="imagenet", backbone="resnet18")
    return narrow(path)


def narrow_network(seed: int = 1, outputs: int = 2) -> ResNet:
    torch.manual_seed(seed)
    network = ResNet(ModelSettings.model_validate({**NARROW, "weights": "random"}), outputs)
    seen_images(network)
    return network


def message(settings: ModelSettings) -> str:
    with pytest.raises(WeightsError) as caught:
        load_base(settings, 1, seed=0)
    return str(caught.value)
