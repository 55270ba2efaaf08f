"""Lung masks, against the lungs that phantoms were drawn with."""

import numpy as np
import pytest

from fedrad.client.images.lung_mask import lung_mask
from fedrad.deploy.phantoms import draw_radiograph, random_anatomy, true_lung_mask

SIZE = 128


def chest(seed, severity):
    anatomy = random_anatomy("adult", np.random.default_rng(seed))
    return draw_radiograph(anatomy, severity, seed, SIZE) * 2048 - 1024, true_lung_mask(
        anatomy, SIZE
    )


@pytest.mark.parametrize("severity", [0.0, 0.5, 1.0])
def test_the_mask_covers_the_lungs_of_healthy_and_diseased(severity):
    overlaps, covered, count = [], [], 0
    for seed in range(10):
        picture, truth = chest(seed, severity)
        mask = lung_mask(picture)
        if mask is None:
            continue
        count += 1
        assert mask.shape == picture.shape
        assert mask.min() >= 0
        assert mask.max() <= 1
        inside = mask > 0.5
        overlaps.append(2 * (inside & truth).sum() / (inside.sum() + truth.sum()))
        covered.append((inside & truth).sum() / truth.sum())
    print(count, np.median(overlaps), np.median(covered))
    assert count >= 7
    assert np.median(overlaps) > 0.75
    assert np.median(covered) > 0.75


@pytest.mark.parametrize("size", [64, 256])
def test_the_mask_has_the_size_of_the_picture(size):
    anatomy = random_anatomy("adult", np.random.default_rng(1))
    picture = draw_radiograph(anatomy, 0.2, 1, size) * 2048 - 1024
    assert lung_mask(picture).shape == (size, size)


@pytest.mark.parametrize("picture", [np.zeros((64, 64)), np.full((64, 64), -1024.0)])
def test_a_picture_without_lungs_has_no_mask(picture):
    assert lung_mask(picture) is None


class HalfAndHalf:
    """A network that calls the upper half lung."""

    def mask(self, image):
        return np.repeat([[True], [False]], 256, axis=0).repeat(512, axis=1)


def test_a_networks_mask_is_brought_to_the_size_of_the_picture():
    mask = lung_mask(np.zeros((64, 64)), HalfAndHalf())
    assert mask.shape == (64, 64)
    assert (mask[:32] == 1).all()
    assert (mask[32:] == 0).all()
