"""Weight files that are not what was asked for are refused; others are downloaded and stored."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file
from support.weights import (
    IMAGENET_FILE,
    XRV_FILE,
    alone,
    message,
    narrow,
    narrow_network,
    no_network,
    of_file,
    pinned,
    seen_images,
)
from torch import nn

from fedrad.models import weight_files
from fedrad.models.settings import ModelSettings
from fedrad.models.weight_files import WeightsError, fetch, file_sha256
from fedrad.models.weight_folders import cache_folder
from fedrad.models.weights import load_base, save


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return alone(tmp_path, monkeypatch)


# Files that are not what the experiment asks for


class Villain:
    """Unpickled in full, it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.trace,)


def test_absent_weights_are_refused_with_where_to_put_them(folder: Path) -> None:
    text = message(ModelSettings(sha256="0" * 64))
    assert all(part in text for part in (XRV_FILE, "0" * 64, f"put the file {XRV_FILE}"))
    assert str(folder) in text


def test_unpinned_weights_are_refused_with_the_command_that_pins(folder: Path) -> None:
    (folder / XRV_FILE).write_bytes(b"whatever")
    assert "fedrad weights pin resnet50-res512-all" in message(ModelSettings())


def test_weights_of_another_hash_are_refused_with_both_hashes(folder: Path) -> None:
    (folder / XRV_FILE).write_bytes(b"whatever")
    text = message(ModelSettings(sha256="0" * 64))
    assert all(part in text for part in (XRV_FILE, "0" * 64, file_sha256(folder / XRV_FILE)))
    assert "pin this one" in text


@pytest.mark.parametrize("name", [XRV_FILE, IMAGENET_FILE, "site.safetensors"])
def test_a_file_that_holds_no_weights_is_refused(name: str, folder: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, folder / "whole")
    whole = (folder / "whole").read_bytes()
    if name.endswith(".safetensors"):
        save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, folder / "whole")
        whole = (folder / "whole").read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], b"", b"<html>404: Not Found</html>\n"):
        (folder / name).write_bytes(content)
        text = message(of_file(folder / name))
        assert name in text
        assert "get the file again" in text
        assert "pin it" in text


@pytest.mark.parametrize("name", [XRV_FILE, IMAGENET_FILE])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_does_not_run(
    name: str, zipped: bool, folder: Path, tmp_path: Path
) -> None:
    content = {"conv1.weight": Villain(tmp_path / "it-ran")}
    torch.save(content, folder / name, _use_new_zipfile_serialization=zipped)
    text = message(of_file(folder / name))
    assert name in text
    assert "get the file again" in text
    assert "weights_only" not in text  # torch's own advice is to let it run
    assert not (tmp_path / "it-ran").exists()
    torch.load(folder / name, weights_only=False)
    assert (tmp_path / "it-ran").exists()  # so it would have run


@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3, "state_dict": {"conv1.weight": torch.zeros(64, 1, 7, 7)}},
        [torch.zeros(3)],
        torch.zeros(3),
        {1: torch.zeros(3)},
    ],
)
def test_a_pickle_that_is_no_state_dict_is_refused(content: object, folder: Path) -> None:
    torch.save(content, folder / XRV_FILE)
    text = message(pinned(folder / XRV_FILE))
    assert XRV_FILE in text
    assert "get the file again" in text


def test_weights_of_another_architecture_are_refused_with_what_differs(folder: Path) -> None:
    resnet18 = torchvision.models.resnet18(weights=None, num_classes=18)
    resnet18.conv1 = nn.Conv2d(1, 64, kernel_size=7, bias=False)
    torch.save(resnet18.state_dict(), folder / XRV_FILE)
    text = message(pinned(folder / XRV_FILE))
    assert all(part in text for part in (XRV_FILE, "does not fit resnet50", "is missing", "pin"))

    torch.save(resnet18.state_dict(), folder / IMAGENET_FILE)  # grey already
    text = message(of_file(folder / IMAGENET_FILE))
    assert IMAGENET_FILE in text
    assert "no ResNet for colour images" in text


def test_a_safetensors_file_of_another_network_is_refused(folder: Path) -> None:
    path = folder / "site.safetensors"
    save(path, narrow_network(), outputs=["a", "b"], description="")
    text = message(narrow(path, width=0.25))
    assert "site.safetensors holds width = 0.125, the experiment asks for 0.25" in text
    assert "backbone = resnet18" in message(narrow(path, backbone="resnet34"))

    state = {k: v for k, v in narrow_network().state_dict().items() if k != "bn1.running_var"}
    save_file({**state, "extra": torch.zeros(1)}, path)  # a file without metadata
    text = message(narrow(path))
    assert "bn1.running_var is missing" in text
    assert "extra is unknown" in text

    save_file(narrow_network().state_dict(), path)
    assert "bn1.bias is (8,) instead of (16,)" in message(narrow(path, width=0.25))


@pytest.mark.parametrize("outputs", ["bpd, death", "7", "null"])
def test_a_safetensors_file_with_garbled_output_names_is_refused(
    outputs: str, folder: Path
) -> None:
    path = folder / "site.safetensors"
    save_file(narrow_network().state_dict(), path, {"outputs": outputs})
    assert "site.safetensors" in message(narrow(path))


def test_a_head_without_bias_is_refused(folder: Path) -> None:
    path = folder / "site.safetensors"
    save_file({k: v for k, v in narrow_network().state_dict().items() if k != "fc.bias"}, path)
    assert "fc.weight is unknown" in message(narrow(path))


# Fetching


def test_without_a_network_the_error_of_fetch_names_the_folder_for_the_file() -> None:
    with pytest.raises(WeightsError) as caught:
        fetch(ModelSettings())
    text = str(caught.value)
    assert all(part in text for part in (XRV_FILE, str(cache_folder()), "no route to host"))


def test_a_file_is_downloaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(url: str, target: str, **_: object) -> None:
        asked.append(url)
        Path(target).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    path = fetch(ModelSettings())
    assert fetch(ModelSettings()) == path == weight_files.find_weights(pinned(path))
    assert asked == [
        f"https://github.com/mlmed/torchxrayvision/releases/download/v1/{XRV_FILE}",
    ]
    control = ModelSettings(weights="imagenet")
    assert fetch(control).name == "resnet50-11ad3fa6.pth"  # IMAGENET1K_V2, as published


# Pickles are read once, then safetensors


def test_a_published_pickle_is_unpickled_once_and_kept_as_safetensors(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = seen_images(torchvision.models.resnet18(weights=None))
    torch.save(theirs.state_dict(), folder / IMAGENET_FILE)
    settings = of_file(folder / IMAGENET_FILE)
    first = load_base(settings, 1, seed=0)
    converted = cache_folder() / "converted" / f"{settings.sha256}.safetensors"
    with safe_open(converted, "pt") as file:
        assert file.metadata() == {"source": IMAGENET_FILE, "source_sha256": settings.sha256}
        for key, value in theirs.state_dict().items():
            assert torch.equal(file.get_tensor(key), value), key
    with monkeypatch.context() as context:
        context.setattr(torch, "load", no_network)  # nothing is unpickled any more
        assert load_base(settings, 1, seed=0).digest == first.digest


def test_a_conversion_that_was_changed_is_made_again_from_the_original(folder: Path) -> None:
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / IMAGENET_FILE)
    settings = of_file(folder / IMAGENET_FILE)
    first = load_base(settings, 1, seed=0)
    converted = cache_folder() / "converted" / f"{settings.sha256}.safetensors"
    whole = converted.read_bytes()
    for damaged in (whole[:-8] + b"\0\0\0\1\0\0\0\1", whole[:1000], b""):
        converted.write_bytes(damaged)
        assert load_base(settings, 1, seed=0).digest == first.digest
        assert converted.read_bytes()[-8:] == whole[-8:]


def test_the_original_must_have_the_pinned_hash_though_a_conversion_is_there(folder: Path) -> None:
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / IMAGENET_FILE)
    settings = of_file(folder / IMAGENET_FILE)
    load_base(settings, 1, seed=0)
    (folder / IMAGENET_FILE).write_bytes(b"another file")
    assert "the experiment asks for" in message(settings)


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / IMAGENET_FILE)
    (folder / "a-file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "a-file"))
    warnings: list[str] = []  # not caplog: a library run by another test resets all logging
    monkeypatch.setattr(weight_files.log, "warning", lambda text, *of: warnings.append(text % of))
    load_base(of_file(folder / IMAGENET_FILE), 1, seed=0)
    assert "cannot be kept as safetensors" in warnings[0]


@pytest.mark.parametrize("backbone", ["resnet34", "resnet101"])
def test_imagenet_weights_of_every_depth_fit_their_own_network_only(
    backbone: str, folder: Path
) -> None:
    settings = ModelSettings.model_validate({"backbone": backbone, "weights": "imagenet"})
    theirs = torchvision.models.get_model(backbone, weights=None)
    path = folder / weight_files.file_name(settings)
    torch.save(theirs.state_dict(), path)
    base = load_base(pinned(path, weights="imagenet", backbone=backbone), 1, seed=0)
    assert torch.equal(base.network.layer3[5].conv2.weight, theirs.layer3[5].conv2.weight)

    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    text = message(pinned(path, weights="imagenet", backbone=backbone))
    missing = "layer1.0.bn3.bias" if backbone == "resnet101" else "layer1.2.bn1.bias"
    assert f"does not fit {backbone} of width 1.0: {missing} is missing" in text
    assert "more. Change [model]" in text


def test_weights_that_nobody_pinned_are_not_loaded(folder):
    """Whatever lies under their name: there is no hash to hold the file against."""
    (folder / "base.safetensors").write_bytes(b"anything")
    with pytest.raises(WeightsError, match="are not pinned: run `fedrad weights pin"):
        weight_files.find_weights(ModelSettings(weights="base.safetensors"))
