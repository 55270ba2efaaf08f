"""Lungs, whole bodies and negatives, on phantoms whose lungs are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedrad.client.images import lungs, warning_signs
from fedrad.deploy.phantoms import anatomy, radiograph
from fedrad.deploy.phantoms.shapes import Pose

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
        assert lungs.pspnet_folder() == tmp_path
        assert lungs.LungNetwork(tmp_path).box(image) == box
