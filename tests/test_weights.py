"""Base weights: the pinned file or none, and from it the network that it came from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
import torchxrayvision
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from fedrad.models import weight_files
from fedrad.models.network import ResNet
from fedrad.models.settings import ModelSettings
from fedrad.models.weight_files import WeightsError, fetch, file_sha256
from fedrad.models.weights import load_base, read_model, save

XRV_FILE = "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt"
IMAGENET_FILE = "resnet18-f37072fd.pth"
NARROW: dict[str, Any] = {"backbone": "resnet18", "width": 0.125, "size": 32}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


@pytest.fixture(scope="module")
def xrv_state() -> dict[str, Tensor]:
    """A state dict of torchxrayvision's layout: a grey ResNet-50 with 18 outputs."""
    torch.manual_seed(8)
    network = torchvision.models.resnet50(weights=None, num_classes=18)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    state: dict[str, Tensor] = seen_images(network).state_dict()
    return state


@pytest.fixture(scope="module")
def xrv_file(xrv_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torchxrayvision") / XRV_FILE
    torch.save(xrv_state, path)
    return path


@pytest.fixture(scope="module")
def radiograph() -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return 2048 * torch.rand(1, 1, 512, 512, generator=generator) - 1024


def pinned(path: Path, **more: Any) -> ModelSettings:
    return ModelSettings.model_validate({"sha256": file_sha256(path), **more})


def narrow(path: Path, **more: Any) -> ModelSettings:
    return pinned(path, weights=path.name, **{**NARROW, **more})


def xrv_model(path: Path) -> nn.Module:
    theirs = torchxrayvision.models.ResNet("resnet50-res512-all", cache_dir=str(path.parent))
    theirs.op_threshs = None  # logits, not rescaled probabilities
    return theirs


def test_features_are_those_of_torchxrayvision(
    xrv_file: Path, radiograph: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDRAD_WEIGHTS", str(xrv_file.parent))
    base = load_base(pinned(xrv_file), 1, seed=0)
    with torch.no_grad():
        ours = base.network.eval().features(radiograph)
        assert torch.equal(ours, xrv_model(xrv_file).features(radiograph))
    assert base.outputs == tuple(torchxrayvision.models.ResNet.targets)
    assert XRV_FILE in base.description


def test_the_base_model_scores_torchxrayvisions_pneumonia(
    xrv_file: Path, radiograph: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDRAD_WEIGHTS", str(xrv_file.parent))
    model = load_base(pinned(xrv_file), 2, seed=0).as_model(
        ["label", "age"], {"label": "Pneumonia"}
    )
    assert model is not None
    assert not model.training
    theirs = xrv_model(xrv_file)
    with torch.no_grad():
        pneumonia = theirs(radiograph)[0, theirs.targets.index("Pneumonia")]
        label, age = model(radiograph)[0]
    assert label.item() == pytest.approx(pneumonia.item(), rel=1e-5)
    assert age.isnan()  # nothing in the base weights means that


def test_keys_with_the_prefix_of_a_wrapped_model_are_the_same_weights(
    xrv_state: dict[str, Tensor], xrv_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixed = {f"model.{key}": value for key, value in xrv_state.items()}
    torch.save({**prefixed, "op_threshs": torch.full((18,), torch.nan)}, folder / XRV_FILE)
    wrapped = load_base(pinned(folder / XRV_FILE), 1, seed=0)
    monkeypatch.setenv("FEDRAD_WEIGHTS", str(xrv_file.parent))
    plain = load_base(pinned(xrv_file), 1, seed=0)
    assert wrapped.digest == plain.digest
    assert wrapped.head is not None
    assert plain.head is not None
    assert all(map(torch.equal, wrapped.head, plain.head))


def test_torchxrayvisions_own_cache_is_looked_into(xrv_file: Path) -> None:
    cache = Path.home() / ".torchxrayvision" / "models_data"
    cache.mkdir(parents=True)
    (cache / XRV_FILE).symlink_to(xrv_file)
    assert weight_files.find(pinned(xrv_file)) == cache / XRV_FILE


def narrow_network(seed: int = 1, outputs: int = 2) -> ResNet:
    torch.manual_seed(seed)
    network = ResNet(ModelSettings.model_validate({**NARROW, "weights": "random"}), outputs)
    seen_images(network)
    return network


def test_what_was_saved_is_what_is_loaded(folder: Path) -> None:
    network, path = narrow_network(), folder / "site.safetensors"
    save(path, network, outputs=["bpd", "death"], description="after round 30", rounds="30")
    base = load_base(narrow(path), 1, seed=5)
    for key, value in network.state_dict().items():
        if not key.startswith("fc."):
            assert torch.equal(base.network.state_dict()[key], value), key
    assert (base.outputs, base.description) == (("bpd", "death"), "after round 30")

    images = 2048 * torch.rand(3, 1, 32, 32) - 1024
    model = base.as_model(["outcome"], {"outcome": "death"})
    assert model is not None
    assert torch.allclose(model(images)[:, 0], network(images)[:, 1], atol=1e-6)
    assert torch.equal(read_model(path, narrow_network(2)).eval()(images), network(images))


def test_a_saved_model_says_what_it_takes_and_what_it_is_for(folder: Path) -> None:
    save(folder / "m.safetensors", narrow_network(), outputs=["a", "b"], description="d", base="h")
    with safe_open(folder / "m.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata == {
        "backbone": "resnet18",
        "width": "0.125",
        "size": "32",
        "input": "1 channel, float in [-1024, 1024]",
        "outputs": '["a", "b"]',
        "description": "d",
        "use": "research use only; not a medical device",
        "base": "h",
    }
    assert [p.name for p in folder.iterdir()] == ["m.safetensors"]


def test_a_model_of_another_shape_is_not_read(folder: Path) -> None:
    save(folder / "m.safetensors", narrow_network(), outputs=["a", "b"], description="")
    with pytest.raises(WeightsError, match=r"m\.safetensors"):
        read_model(folder / "m.safetensors", narrow_network(outputs=1))


def test_an_output_the_base_weights_do_not_have_is_refused(folder: Path) -> None:
    save(folder / "m.safetensors", narrow_network(), outputs=["bpd", "death"], description="")
    base = load_base(narrow(folder / "m.safetensors"), 1, seed=0)
    with pytest.raises(WeightsError, match="'Pneumonia': the base weights have 'bpd', 'death'"):
        base.as_model(["label"], {"label": "Pneumonia"})
    assert base.as_model(["label"], {}) is None


def test_a_grey_image_is_to_imagenet_weights_what_its_colour_copy_was(folder: Path) -> None:
    """Equal wherever the first kernel does not reach over the border: theirs pads with the mean
    colour, ours with mid-grey. So a margin of two of the convolution's outputs is left out."""
    torch.manual_seed(6)
    theirs = seen_images(torchvision.models.resnet18(weights=None))
    torch.save(theirs.state_dict(), folder / IMAGENET_FILE)
    settings = pinned(folder / IMAGENET_FILE, weights="imagenet", backbone="resnet18")
    base = load_base(settings, 1, seed=0)
    ours = base.network.eval()
    grey = torch.rand(2, 1, 64, 64)
    colour = normalize(
        grey.expand(-1, 3, -1, -1), mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    with torch.no_grad():
        expected = theirs.bn1(theirs.conv1(colour))[..., 2:-2, 2:-2]
        found = ours.bn1(ours.conv1(2048 * grey - 1024))[..., 2:-2, 2:-2]
    assert torch.allclose(found, expected, atol=2e-5)
    assert torch.equal(ours.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert base.head is None
    assert base.outputs == ()


def test_random_weights_are_known_by_their_seed() -> None:
    settings = ModelSettings.model_validate({**NARROW, "weights": "random"})
    first, again, other = (load_base(settings, 1, seed=seed) for seed in (1, 1, 2))
    assert first.digest == again.digest != other.digest
    assert torch.equal(first.network.fc.weight, again.network.fc.weight)
    assert "seed 1" in first.description


def test_the_head_is_drawn_from_the_seed_and_is_no_part_of_the_base(folder: Path) -> None:
    save(folder / "m.safetensors", narrow_network(), outputs=["a", "b"], description="")
    settings = narrow(folder / "m.safetensors")
    first, again, other = (load_base(settings, 1, seed=seed) for seed in (1, 1, 2))
    assert first.digest == again.digest == other.digest
    assert torch.equal(first.network.fc.weight, again.network.fc.weight)
    assert not torch.equal(first.network.fc.weight, other.network.fc.weight)


def test_loading_draws_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    load_base(ModelSettings.model_validate({**NARROW, "weights": "random"}), 1, seed=1)
    assert torch.equal(before, torch.get_rng_state())


# Files that are not what the experiment asks for


class Villain:
    """Unpickled in full, it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.trace,)


def message(settings: ModelSettings) -> str:
    with pytest.raises(WeightsError) as caught:
        load_base(settings, 1, seed=0)
    return str(caught.value)


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


def of_file(path: Path) -> ModelSettings:
    if path.name == XRV_FILE:
        return pinned(path)
    if path.name == IMAGENET_FILE:
        return pinned(path, weights="imagenet", backbone="resnet18")
    return narrow(path)


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
    save_file({**state, "extra": torch.zeros(1)}, path)  # a file that says nothing of itself
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


def test_without_a_network_fetching_says_where_to_put_the_file() -> None:
    with pytest.raises(WeightsError) as caught:
        fetch(ModelSettings())
    text = str(caught.value)
    assert all(
        part in text for part in (XRV_FILE, str(weight_files.cache_folder()), "no route to host")
    )


def test_a_file_is_fetched_once_and_found_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(url: str, target: str, **_: object) -> None:
        asked.append(url)
        Path(target).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    path = fetch(ModelSettings())
    assert fetch(ModelSettings()) == path == weight_files.find(pinned(path))
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
    kept = weight_files.cache_folder() / "converted" / f"{settings.sha256}.safetensors"
    with safe_open(kept, "pt") as file:
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
    kept = weight_files.cache_folder() / "converted" / f"{settings.sha256}.safetensors"
    whole = kept.read_bytes()
    for damaged in (whole[:-8] + b"\0\0\0\1\0\0\0\1", whole[:1000], b""):
        kept.write_bytes(damaged)
        assert load_base(settings, 1, seed=0).digest == first.digest
        assert kept.read_bytes()[-8:] == whole[-8:]


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
    said: list[str] = []  # not caplog: a library run by another test resets all logging
    monkeypatch.setattr(weight_files.log, "warning", lambda text, *of: said.append(text % of))
    load_base(of_file(folder / IMAGENET_FILE), 1, seed=0)
    assert "cannot be kept as safetensors" in said[0]


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
