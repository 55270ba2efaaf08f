"""Base weights: only the pinned file is used, and it gives its original network."""

from pathlib import Path

import pytest
import torch
import torchvision
import torchxrayvision
from safetensors import safe_open
from support.weights import (
    IMAGENET_FILE,
    NARROW,
    XRV_FILE,
    alone,
    narrow,
    narrow_network,
    pinned,
    seen_images,
)
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from fedrad.models import weight_files
from fedrad.models.settings import ModelSettings
from fedrad.models.weight_files import WeightsError
from fedrad.models.weights import load_base, read_model, save


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return alone(tmp_path, monkeypatch)


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
    assert weight_files.find_weights(pinned(xrv_file)) == cache / XRV_FILE


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


def test_a_saved_model_has_its_input_and_its_use_as_metadata(folder: Path) -> None:
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
        grey_output = ours.bn1(ours.conv1(2048 * grey - 1024))[..., 2:-2, 2:-2]
    assert torch.allclose(grey_output, expected, atol=2e-5)
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
