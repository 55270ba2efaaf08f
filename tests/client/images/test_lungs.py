"""Lungs, whole bodies and negatives, on phantoms whose lungs are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedrad.client.images import lungs, warning_signs
from fedrad.client.problems import SiteProblem
from fedrad.deploy.phantoms import anatomy, radiograph
from fedrad.deploy.phantoms.shapes import Pose
from fedrad.models.settings import InputSettings
from fedrad.models.weight_files import WeightsError, file_sha256

BODIES = 8


def bodies(age_group):
    rng = np.random.default_rng(0)
    return [anatomy.random_anatomy(age_group, rng) for _ in range(BODIES)]


@pytest.mark.parametrize("age_group", ["infant", "adult"])
def test_a_negative_is_suspected_and_a_chest_is_not(age_group):
    for number, body in enumerate(bodies(age_group)):
        image = radiograph.draw_radiograph(body, 0.2, number, 256)
        assert not warning_signs.suspected_inverted(image)
        assert warning_signs.suspected_inverted(1 - image)
        assert not warning_signs.whole_body(image)


def test_most_babygrams_are_flagged():
    """A tall picture, most of it below the chest."""
    small = [replace(body, pose=Pose(scale=0.45, shift_y=-0.35)) for body in bodies("infant")]
    images = [
        radiograph.draw_radiograph(body, 0.2, n, 320)[:, 64:256] for n, body in enumerate(small)
    ]
    assert (
        sum(warning_signs.whole_body(np.ascontiguousarray(image)) for image in images) >= BODIES - 1
    )


def test_the_box_with_its_margin_holds_the_lungs_of_adults():
    held = []
    for number, body in enumerate(bodies("adult")):
        image, truth = (
            radiograph.draw_radiograph(body, 0.2, number, 256),
            radiograph.true_lung_mask(body, 256),
        )
        box = lungs.lung_box(image)
        inside = 0 if box is None else truth[lungs.with_margin(box, image.shape)].sum()
        held.append(inside > 0.9 * truth.sum())
    assert sum(held) >= BODIES - 1


@pytest.mark.slow
def test_pspnet_finds_the_box_where_its_outputs_say_lung(tmp_path, monkeypatch):
    """Weights of the true layout, in which only the last layer speaks: everything is lung."""
    from torchxrayvision.baseline_models import chestx_det

    network = chestx_det.pspnet(len(chestx_det.PSPNet.targets))
    state = network.state_dict()
    file = tmp_path / lungs.PSPNET
    wanted = [chestx_det.PSPNet.targets.index(f"{side} Lung") for side in ("Left", "Right")]
    state["classification.weight"].zero_()
    bias = state["classification.bias"]
    monkeypatch.setenv("FEDRAD_WEIGHTS", str(tmp_path))
    image = np.random.default_rng(0).random((300, 240), dtype=np.float32)
    for level, box in ((-1.0, None), (1.0, (slice(0, 300), slice(0, 240)))):
        bias.fill_(-1.0)
        bias[wanted] = level
        torch.save({f"module.{k}": v for k, v in state.items()}, file)
        monkeypatch.setattr(lungs, "PSPNET_SHA256", file_sha256(file))
        assert lungs.pspnet_file() == file
        assert lungs.LungNetwork(file).box(image) == box
    picture = torch.from_numpy(np.random.default_rng(1).uniform(-1024, 1024, (1, 1, 512, 512)))
    original = chestx_det.PSPNet(cache_dir=str(tmp_path)).eval()
    with torch.inference_mode():
        assert torch.equal(
            lungs.LungNetwork(file)._network(picture.float()), original(picture.float())
        )


class TestOnlyThePublishedNetwork:
    """Before, any file of the name was used, and a missing one would have been downloaded."""

    @pytest.fixture(autouse=True)
    def alone(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FEDRAD_WEIGHTS", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))

        def download(*_: object) -> None:
            raise AssertionError("a site downloads nothing")

        monkeypatch.setattr("torchxrayvision.utils.download", download)

    def test_another_file_of_its_name_is_refused(self, tmp_path):
        file = tmp_path / lungs.PSPNET
        torch.save({"module.classification.bias": torch.zeros(14)}, file)
        settings = InputSettings(region="lungs-pspnet")
        with pytest.raises(SiteProblem, match=f"{lungs.PSPNET_SHA256} is not") as refused:
            lungs.pspnet_weights_for(settings)
        assert refused.value.reason == "weights"
        with pytest.raises(WeightsError, match="not the published file"):
            lungs.LungNetwork(file)

    def test_a_missing_file_is_named_and_not_downloaded(self, tmp_path):
        settings = InputSettings(region="lungs-pspnet")
        with pytest.raises(SiteProblem, match=f"{lungs.PSPNET} .*was not found"):
            lungs.pspnet_weights_for(settings)
        with pytest.raises(FileNotFoundError):
            lungs.LungNetwork(tmp_path / lungs.PSPNET)

    def test_the_published_file_is_found_in_torchxrayvisions_folder(self, tmp_path, monkeypatch):
        file = tmp_path / "home" / ".torchxrayvision" / "models_data" / lungs.PSPNET
        file.parent.mkdir(parents=True)
        file.write_bytes(b"weights")
        monkeypatch.setattr(lungs, "PSPNET_SHA256", file_sha256(file))
        assert lungs.pspnet_weights_for(InputSettings(region="lungs-pspnet")) == str(file)

    def test_other_regions_need_no_file(self):
        assert lungs.pspnet_weights_for(InputSettings(region="lungs")) is None
