"""Pinning writes the hash of a file that fits, and touches nothing else in the experiment file."""

import pytest
import torch
import torchvision
from support.hospital import EXPERIMENT

from fedrad.deploy.start import pin
from fedrad.deploy.start.pin import pin_weights
from fedrad.exchange.experiment import ExperimentError, read_experiment
from fedrad.models.network import ResNet
from fedrad.models.weight_files import WeightsError, file_sha256
from fedrad.models.weights import load_base, save


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDRAD_WEIGHTS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_file_that_fits_is_pinned_and_comments_stay(experiment_file, tmp_path):
    experiment_file.write_text("# mine\n" + EXPERIMENT)
    settings = read_experiment(experiment_file)[0].model
    file = tmp_path / "base.safetensors"
    save(file, ResNet(settings, 1), outputs=["x"], description="a test")
    pin_weights(str(file), experiment_file)
    pinned = read_experiment(experiment_file)[0].model
    assert (pinned.weights, pinned.sha256) == ("base.safetensors", file_sha256(file))
    assert experiment_file.read_text().startswith("# mine\n")


@pytest.mark.parametrize("content", [None, b"no weights"])
def test_what_does_not_fit_is_not_pinned(experiment_file, tmp_path, content):
    file = tmp_path / "base.safetensors"
    if content is None:  # another width
        settings = read_experiment(experiment_file)[0].model.model_copy(update={"width": 0.25})
        save(file, ResNet(settings, 1), outputs=["x"], description="a test")
    else:
        file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"base\.safetensors"):
        pin_weights(str(file), experiment_file)
    assert experiment_file.read_text() == EXPERIMENT


def test_a_missing_file_is_named(experiment_file):
    with pytest.raises(WeightsError, match=r"gone\.safetensors: no such file"):
        pin_weights("gone.safetensors", experiment_file)


def test_published_weights_are_fetched_once_and_pinned_by_the_hash_of_what_came(
    experiment_file, monkeypatch
):
    """The file that comes has torchvision's layout; from then on no network is needed."""
    theirs = torchvision.models.resnet34(weights=None)
    downloads = []

    def download(url, target):
        downloads.append(url)
        torch.save(theirs.state_dict(), target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    text = EXPERIMENT.replace('"resnet18"\nwidth = 0.125', '"resnet34"')
    experiment_file.write_text(text)
    for _ in range(2):
        pin_weights("imagenet", experiment_file)
    assert len(downloads) == 1
    settings = read_experiment(experiment_file)[0].model
    assert (settings.weights, len(settings.sha256)) == ("imagenet", 64)
    base = load_base(settings, 1, seed=0)
    assert torch.equal(base.network.layer4[2].conv2.weight, theirs.layer4[2].conv2.weight)


def test_a_download_of_another_network_is_not_pinned(experiment_file, monkeypatch):
    state = torchvision.models.resnet18(weights=None).state_dict()
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda _, target: torch.save(state, target)
    )
    text = EXPERIMENT.replace('"resnet18"\nwidth = 0.125', '"resnet101"')
    experiment_file.write_text(text)
    with pytest.raises(WeightsError, match=r"does not fit resnet101 .* layer1\.0\.bn3"):
        pin_weights("imagenet", experiment_file)
    assert experiment_file.read_text() == text


def test_the_experiment_file_is_not_touched_before_all_is_checked(
    experiment_file, tmp_path, monkeypatch
):
    file = tmp_path / "base.safetensors"
    save(file, ResNet(read_experiment(experiment_file)[0].model, 1), outputs=["x"], description="a")
    read_while_checked = []
    check = pin.weights_fault

    def checked(experiment):
        read_while_checked.append(experiment_file.read_text())
        return check(experiment)

    monkeypatch.setattr(pin, "weights_fault", checked)
    pin_weights(str(file), experiment_file)
    assert read_while_checked == [EXPERIMENT]
    assert "base.safetensors" in experiment_file.read_text()


def test_a_text_that_is_no_experiment_is_not_written(experiment_file, tmp_path):
    file = tmp_path / "base.safetensors"
    file.write_bytes(b"anything")
    wrong = EXPERIMENT + "no_such_setting = 1\n"
    experiment_file.write_text(wrong)
    with pytest.raises(ExperimentError, match="no_such_setting"):
        pin_weights(str(file), experiment_file)
    assert experiment_file.read_text() == wrong
