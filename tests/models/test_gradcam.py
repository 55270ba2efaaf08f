"""Heat maps are largest at the finding, and the pictures stay at the site."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch.nn import functional
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.models.augment import switched_off
from fedrad.models.examples import Examples
from fedrad.models.gradcam import heat_maps
from fedrad.models.network import ResNet
from fedrad.models.schedule import Schedule
from fedrad.models.settings import ModelSettings, RecipeSettings
from fedrad.models.training import score, train_round
from fedrad.models.weights import load_base

CPU = torch.device("cpu")
SIZE = 128


def network(outputs: int = 1) -> ResNet:
    settings = ModelSettings(backbone="resnet18", width=0.125, weights="random", size=SIZE)
    return load_base(settings, outputs, seed=0).network


def blobs(count: int, seed: int):
    """Noise; in every other image a bright square of known place. Returns images, labels, masks."""
    rng = np.random.default_rng(seed)
    images = rng.normal(-300, 200, (count, SIZE, SIZE))
    masks = np.zeros(images.shape, bool)
    labels = np.arange(count) % 2
    for i in np.flatnonzero(labels):
        row, column = rng.integers(0, SIZE - 32, 2)
        masks[i, row : row + 32, column : column + 32] = True
    images[masks] += 700
    return images.clip(-1024, 1024).astype(np.float16), labels.astype(np.float32), masks


def test_heat_lies_on_the_finding_that_a_trained_network_goes_by():
    images, labels, _ = blobs(96, seed=1)
    net = network()
    recipe = RecipeSettings.model_validate(
        {
            "preset": "full",
            "batch_size": 16,
            "learning_rates": {"head": 5e-3, "backbone": 5e-3},
            "augmentation": switched_off("flip"),
        }
    )
    schedule = Schedule(recipe, 6)
    for round_ in range(6):
        train_round(net, Examples(images, labels[:, None]), schedule, round_, seed=7, device=CPU)
    new, labels, masks = blobs(40, seed=2)
    assert roc_auc_score(labels, score(net, new, device=CPU)[:, 0]) > 0.95
    ill = labels == 1
    heat = heat_maps(net, new[ill], outcome=0, device=CPU)
    assert heat.shape == (20, SIZE, SIZE)
    on_blob = np.array([h[m].sum() / h.sum() for h, m in zip(heat, masks[ill], strict=True)])
    chance = 32 * 32 / SIZE**2
    assert on_blob.mean() > 1.5 * chance
    assert (on_blob > chance).mean() >= 0.9
    # The hottest place is within one cell of layer4's grid (32 pixels) of the finding.
    far = []
    for h, m in zip(heat, masks[ill], strict=True):
        peak = np.array(np.unravel_index(h.argmax(), h.shape))
        far.append(np.abs(np.argwhere(m) - peak).max(axis=1).min())
    assert np.mean(np.array(far) <= 32) >= 0.9


def test_before_a_linear_head_it_is_the_class_activation_map():
    """Selvaraju et al. 2017, section 3.1: behind global average pooling Grad-CAM is CAM."""
    net = network(outputs=2).eval()
    images, _, _ = blobs(3, seed=3)
    with torch.no_grad():
        x = torch.from_numpy(images.astype(np.float32)).unsqueeze(1)
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        activations = net.layer4(net.layer3(net.layer2(net.layer1(x))))  # (N, C, 4, 4)
        for outcome in (0, 1):
            cam = torch.einsum("c,nchw->nhw", net.fc.weight[outcome], activations).relu()
            cam = functional.interpolate(cam[:, None], size=(SIZE, SIZE), mode="bilinear")[:, 0]
            expected = cam / cam.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)
            with torch.enable_grad():
                maps = heat_maps(net, images, outcome=outcome, device=CPU, batch_size=2)
            np.testing.assert_allclose(maps, expected.numpy(), atol=1e-4)


def test_the_network_is_as_before_and_frozen_weights_are_no_hindrance():
    net = network().eval().requires_grad_(False)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    images, _, _ = blobs(2, seed=4)
    heat_maps(net, images, outcome=0, device=CPU)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not net.layer4._forward_hooks
    assert not net.layer4._backward_hooks
    assert heat_maps(net, images[:0], outcome=0, device=CPU).shape == (0, SIZE, SIZE)


def test_where_nothing_speaks_for_the_outcome_the_map_is_empty():
    net = network()
    with torch.no_grad():
        net.fc.weight.copy_(-net.fc.weight.abs())
    images, _, _ = blobs(2, seed=5)
    assert not heat_maps(net, images, outcome=0, device=CPU).any()


# At the site


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDRAD_WEIGHTS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def explain(hospitals, out, *options):
    given = {
        "--experiment": out / "experiment.toml",
        "--model": out / "model.safetensors",
        "--state": hospitals.state / "a",
    }
    words = [str(w) for pair in given.items() for w in pair]
    arguments = ["explain", str(hospitals.sites["a"]), *words, *options]
    return CliRunner().invoke(app, arguments)


def test_the_pictures_are_written_at_the_site_and_nothing_is_sent(hospitals):
    out = hospitals.run(1)
    ledger = hospitals.state / "a" / "ledger.jsonl"
    before = ledger.read_bytes(), sorted(out.rglob("*"))
    result = explain(hospitals, out, "--count", "3")
    assert result.exit_code == 0, result.output
    assert (ledger.read_bytes(), sorted(out.rglob("*"))) == before
    folder = next((hospitals.state / "a").rglob("explanations")) / "."
    written = sorted(folder.rglob("*.png"))
    assert [p.name for p in written] == ["001.png", "002.png", "003.png"]
    assert str(written[0].parent) in result.output
    assert Image.open(written[0]).size == (800, 440)
    rows = list(csv.DictReader((written[0].parent / "images.csv").open()))
    logits = [float(r["logit"]) for r in rows]
    assert logits == sorted(logits, reverse=True)
    assert all(0 < float(r["probability"]) < 1 for r in rows)


def test_chosen_images_must_be_of_test_patients(hospitals):
    out = hospitals.run(1)
    explain(hospitals, out, "--count", "99")
    table = next((hospitals.state / "a").rglob("images.csv"))
    tested = [r["file"].rsplit("/", 1)[1] for r in csv.DictReader(table.open())]
    assert len(tested) == 12
    chosen = [f"images/{tested[5]}", f"images/{tested[2]}"]
    assert explain(hospitals, out, "--file", chosen[0], "--file", chosen[1]).exit_code == 0
    assert [r["file"][-15:] for r in csv.DictReader(table.open())] == [f[-15:] for f in chosen]
    assert len(list(table.parent.glob("*.png"))) == 2
    other = next(f"{i:04d}.png" for i in range(30) if f"{i:04d}.png" not in tested)
    result = explain(hospitals, out, "--file", f"images/{other}")
    assert result.exit_code == 2
    assert "stands for no test patient" in result.output


def test_what_cannot_be_explained_is_refused_with_what_to_do(hospitals, tmp_path):
    out = hospitals.run(1)
    assert "no outcome 'bpd'; it has label" in explain(hospitals, out, "--outcome", "bpd").output
    text = (out / "experiment.toml").read_text()
    other = tmp_path / "other"
    other.mkdir()
    for change, words in (
        (("width = 0.125", "width = 0.25"), "cannot be loaded"),
        (("seed = 3", "seed = 4"), "test patients of this experiment trained"),
        (('outcomes = ["label"]', 'outcomes = ["patient_id"]'), "give the model of this one"),
    ):
        (other / "experiment.toml").write_text(text.replace(*change))
        (other / "model.safetensors").write_bytes((out / "model.safetensors").read_bytes())
        result = explain(hospitals, other)
        assert result.exit_code == 2
        assert words in result.output
    (out / "model.safetensors").write_bytes(b"nothing")
    assert "no readable safetensors file" in explain(hospitals, out).output
    assert json.loads((out / "summary.json").read_text())["status"] == "completed"
