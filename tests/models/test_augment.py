"""Augmentation: small random changes that keep a radiograph a radiograph."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import CutMix
from torchvision.transforms.v2.functional import affine, gaussian_blur, rotate

from fedrad.models.augment import AUGMENTATIONS, augment, switched_off
from fedrad.models.augment.cutmix import cutmix
from fedrad.models.settings import AugmentationSettings
from fedrad.models.streams import Streams

seeds = st.integers(0, 2**31 - 1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(**given: Any) -> AugmentationSettings:
    """Settings of which everything not given is turned off."""
    return AugmentationSettings.model_validate({**switched_off(), **given})


def smooth_images(count: int, size: int = 48) -> Tensor:
    """Images of a few bright and dark clouds, within [-1024, 1024] and brighter than black."""
    coarse = 1600 * torch.rand(count, 1, 6, 6, generator=seeded(11)) - 700
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from(["white", "black", "noise", "halves"]))
def test_values_stay_within_the_range_of_a_radiograph(seed: int, kind: str) -> None:
    images = {
        "white": torch.full((4, 1, 24, 24), 1024.0),
        "black": torch.full((4, 1, 24, 24), -1024.0),
        "noise": 2048 * torch.rand(4, 1, 24, 24, generator=seeded(seed)) - 1024,
        "halves": 1024.0 * (1 - 2 * (torch.arange(24) < 12).float()).expand(4, 1, 24, 24),
    }[kind]
    strong = AugmentationSettings(rotation=180, zoom=0.5, flip=0.5, blur=0.8, drop=0.5)
    for amount in (AugmentationSettings(), strong):
        changed = augment(images, amount, Streams(seed))
        assert changed.shape == images.shape
        assert changed.min() >= -1024
        assert changed.max() <= 1024


def test_the_same_seed_changes_an_image_in_the_same_way() -> None:
    images = smooth_images(8)
    first, again, other = (augment(images, AugmentationSettings(), Streams(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_images_given_are_left_as_they_were() -> None:
    images = smooth_images(4)
    before = images.clone()
    augment(images, AugmentationSettings(blur=1, drop=1), Streams(1))
    cutmix(images, torch.zeros(4, 1), seeded(1))
    assert torch.equal(images, before)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_with_everything_off_an_image_stays_as_it_is(seed: int) -> None:
    images = 2048 * torch.rand(2, 1, 33, 33, generator=seeded(seed)) - 1024
    assert torch.equal(augment(images, only(), Streams(seed)), images)


def test_a_flip_mirrors_left_and_right() -> None:
    images = smooth_images(3)
    flipped = augment(images, only(flip=1), Streams(1))
    assert torch.equal(flipped, torch.flip(images, [-1]))


def test_an_image_is_flipped_after_it_was_turned() -> None:
    images = smooth_images(4)
    turned = augment(images, only(rotation=10), Streams(1))
    both = augment(images, only(rotation=10, flip=1), Streams(1))
    assert torch.equal(both, torch.flip(turned, [-1]))


def test_half_of_the_images_are_flipped() -> None:
    images = smooth_images(1, 12).expand(400, -1, -1, -1)
    changed = augment(images, only(flip=0.5), Streams(1))
    flipped = (changed - torch.flip(images, [-1])).abs().amax((1, 2, 3)) < 1e-3
    upright = (changed - images).abs().amax((1, 2, 3)) < 1e-3
    assert (flipped ^ upright).all()
    assert 160 < flipped.sum() < 240  # four standard deviations


def torchvision_rotations(image: Tensor, angles: Tensor) -> Tensor:
    return torch.stack(
        [rotate(image, float(a), InterpolationMode.BILINEAR, fill=-1024.0) for a in angles]
    )


def test_a_rotation_is_torchvisions_about_the_centre_by_at_most_the_given_angle() -> None:
    """Each image is compared with torchvision's rotation by every angle of a fine grid."""
    images, largest = smooth_images(12), 20.0
    rotated = augment(images, only(rotation=largest), Streams(3))
    grid = torch.arange(-30, 30.01, 0.25)
    measured = []
    for before, after in zip(images, rotated, strict=True):
        differences = (torchvision_rotations(before, grid) - after).abs().mean((1, 2, 3))
        assert differences.min() < 6  # of 2048; the grid is at most 0.125° off
        measured.append(float(grid[differences.argmin()]))
    assert max(map(abs, measured)) <= largest + 0.25
    assert min(measured) < -5 < 5 < max(measured)  # either way, and each image by its own


def test_a_zoom_keeps_the_aspect_and_changes_the_area_by_at_most_its_share() -> None:
    """`zoom = 0.2` shows between 0.8 and 1.2 of the image's area."""
    images = smooth_images(12)
    zoomed = augment(images, only(zoom=0.2), Streams(3))
    grid = torch.arange(0.7, 1.301, 0.005)
    measured = []
    for before, after in zip(images, zoomed, strict=True):
        shown = torch.stack(
            [
                affine(
                    before,
                    angle=0.0,
                    translate=[0, 0],
                    scale=float(area**-0.5),
                    shear=[0.0],
                    interpolation=InterpolationMode.BILINEAR,
                    fill=-1024.0,
                )
                for area in grid
            ]
        )
        inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
        differences = (shown - after)[inside].abs().mean((1, 2, 3))
        assert differences.min() < 3
        measured.append(float(grid[differences.argmin()]))
    assert 0.795 <= min(measured) < 0.95
    assert 1.05 < max(measured) <= 1.205


def test_what_is_uncovered_or_dropped_takes_the_fill_black_by_default() -> None:
    images = torch.full((60, 1, 40, 40), 1000.0)
    rotated = augment(images, only(rotation=60, fill=0.0), Streams(1))
    assert (rotated[..., 0, 0] == 0).any()
    assert rotated.min() >= 0
    dropped = augment(images, only(drop=1, fill=0.0), Streams(1))
    assert set(dropped.unique().tolist()) == {0.0, 1000.0}
    assert AugmentationSettings().fill == -1024


def test_what_a_rotation_uncovers_is_black() -> None:
    white = torch.full((1, 1, 40, 40), 1000.0)
    corners = [augment(white, only(rotation=180), Streams(s))[0, 0] for s in range(40)]
    tilted = [image for image in corners if image[20, 20] > 999 and image[0, 0] < 900]
    assert tilted
    assert all(image[0, 0] == -1024 for image in tilted if image[1, 1] < 900)
    assert min(float(image.min()) for image in corners) == -1024


def test_a_view_of_more_than_the_image_has_a_black_border() -> None:
    white = torch.full((20, 1, 40, 40), 1000.0)
    shrunk = augment(white, only(zoom=0.6), Streams(1))
    border = torch.cat([shrunk[..., 0, :], shrunk[..., -1, :]], dim=-1)
    beyond = (border < 0).flatten(1).all(1)
    assert 0 < beyond.sum() < 20
    assert (border[beyond] == -1024).any()
    assert (shrunk[..., 20, 20] > 999).all()


def test_a_blur_is_torchvisions_of_a_sigma_in_the_range() -> None:
    images = smooth_images(2, 24) + 300 * torch.randn(2, 1, 24, 24, generator=seeded(5))
    images = images.clamp(-1024, 1024)
    blurred = augment(images, only(blur=1, blur_sigma=(1.3, 1.3)), Streams(1))
    assert torch.allclose(blurred, gaussian_blur(images, [9, 9], [1.3, 1.3]), rtol=0, atol=1e-2)


def test_a_share_of_the_pixels_turns_black() -> None:
    images = torch.zeros(200, 1, 32, 32)
    changed = augment(images, only(drop=0.3, drop_share=0.25), Streams(2))
    assert set(changed.unique().tolist()) == {-1024.0, 0.0}
    dropped = (changed == -1024).float().mean((1, 2, 3))
    hit = dropped > 0
    assert 34 < hit.sum() < 86  # four standard deviations around 60
    assert dropped[hit].mean().item() == pytest.approx(0.25, abs=0.01)


# Each from its own stream

subsets = st.sets(st.sampled_from([each.name for each in AUGMENTATIONS]))


def some(names: set[str]) -> AugmentationSettings:
    """Settings with these on and all others off."""
    return only(**dict.fromkeys(names, 0.4))


def generators_after(settings: AugmentationSettings, seed: int) -> dict[str, Tensor]:
    """Where the stream of each augmentation stands after two batches: what was drawn moved it."""
    streams, images = Streams(seed), smooth_images(5, 16)
    for _ in range(2):
        augment(images, settings, streams)
    return {each.name: streams.generator(each.name).get_state() for each in AUGMENTATIONS}


@settings(max_examples=60, deadline=None)
@given(subsets, subsets, seeds)
def test_which_others_are_on_does_not_move_what_an_augmentation_draws(
    one: set[str], other: set[str], seed: int
) -> None:
    first, second = (generators_after(some(names), seed) for names in (one, other))
    for name in one & other:
        assert torch.equal(first[name], second[name]), name
    for name, untouched in generators_after(only(), seed).items():
        assert torch.equal(first[name], untouched) == (name not in one)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_same_pixels_are_dropped_and_the_same_images_flipped_whatever_else_is_on(
    seed: int,
) -> None:
    white, strong = torch.full((8, 1, 24, 24), 1000.0), {"drop": 0.5, "drop_share": 0.3}
    alone = augment(white, only(**strong), Streams(seed)) == -1024
    everything = AugmentationSettings.model_validate({**strong, "fill": -1024, "zoom": 0.0})
    inner = (..., slice(8, 16), slice(8, 16))  # a rotation uncovers none of these
    together = augment(white, everything, Streams(seed)) == -1024
    assert torch.equal(alone[inner], together[inner])
    sided = torch.where(torch.arange(24) < 12, 1000.0, -1000.0).expand(8, 1, 24, 24)
    flipped = augment(sided, only(flip=0.5), Streams(seed))[..., 12, 2] < 0
    among_others = augment(sided, only(flip=0.5, blur=0.9, rotation=5), Streams(seed))
    assert torch.equal(flipped, among_others[..., 12, 2] < 0)


PUBLISHED = {
    "rotation": 5.0,
    "flip": 0.5,
    "zoom": 0.05,
    "blur": 0.5,
    "blur_sigma": (0.05, 2.0),
    "drop": 0.1,
    "drop_share": 0.25,
    "fill": -1024.0,
}


def test_the_defaults_are_the_published_ones_and_every_other_augmentation_is_off() -> None:
    """recipe.md; black instead of the published mid-grey is the default of `fill`."""
    defaults = AugmentationSettings()
    assert defaults.model_dump(include=set(PUBLISHED)) == PUBLISHED
    on = {each.name for each in AUGMENTATIONS if each.is_on(defaults)}
    assert on == {"rotation", "flip", "zoom", "blur", "drop"}


def test_what_is_switched_off_is_all_but_those_named() -> None:
    names = {each.name for each in AUGMENTATIONS}
    assert switched_off() == dict.fromkeys(names, 0.0)
    assert switched_off("flip", "drop").keys() == names - {"flip", "drop"}
    assert not [each for each in AUGMENTATIONS if each.is_on(only())]


def test_every_setting_belongs_to_one_augmentation_or_to_all() -> None:
    names = [each.name for each in AUGMENTATIONS]
    owners = {
        key: [name for name in names if key == name or key.startswith(f"{name}_")]
        for key in AugmentationSettings.model_fields
    }
    assert owners.pop("fill") == []
    assert all(len(of) == 1 for of in owners.values()), owners
    assert set(names) <= owners.keys()


# CutMix


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Images of which each has a value of its own everywhere, its row number; labels likewise."""
    count, height, width = draw(st.tuples(*[st.integers(1, n) for n in (9, 20, 20)]))
    rows = torch.arange(count, dtype=torch.float32)
    return rows.view(-1, 1, 1, 1).expand(-1, 1, height, width), rows.view(-1, 1), draw(seeds)


@settings(max_examples=200, deadline=None)
@given(batches())
def test_cutmix_returns_the_pasted_labels_and_their_share(
    batch: tuple[Tensor, Tensor, int],
) -> None:
    images, labels, seed = batch
    mixed = cutmix(images, labels, seeded(seed))
    assert torch.equal(mixed.labels, labels)
    assert torch.equal(mixed.other_labels.sort(0).values, labels)  # a shuffled copy
    pasted = mixed.images != images
    for row, other in enumerate(mixed.other_labels.flatten().tolist()):
        assert (mixed.images[row][pasted[row]] == other).all()
        if other != row:  # the image's own pixels and the share are what is left
            height, width = images.shape[-2:]
            assert mixed.share == 1 - int(pasted[row].sum()) / (height * width)


@settings(max_examples=100, deadline=None)
@given(batches())
def test_cutmix_pastes_one_box_for_the_whole_batch(batch: tuple[Tensor, Tensor, int]) -> None:
    images, labels, seed = batch
    mixed = cutmix(images, labels, seeded(seed))
    boxes = {
        tuple(map(tuple, changed.nonzero().tolist()))
        for changed, own, other in zip(
            mixed.images != images, labels, mixed.other_labels, strict=True
        )
        if own != other
    }
    assert len(boxes) <= 1
    for box in boxes:
        if box:
            _, tops, lefts = zip(*box, strict=True)
            height, width = max(tops) - min(tops) + 1, max(lefts) - min(lefts) + 1
            assert len(box) == height * width  # without gaps


def test_the_shares_of_cutmix_are_spread_as_torchvisions() -> None:
    """λ ~ Beta(1, 1) of the drawn box, recomputed from the box clipped at the border."""
    image, label = torch.zeros(2, 1, 64, 64), torch.zeros(2, 1)
    generator = seeded(1)
    ours = [cutmix(image, label, generator).share for _ in range(1500)]
    torch.manual_seed(2)
    reference = CutMix(num_classes=2, alpha=1.0)
    theirs = [reference.make_params([image])["lam_adjusted"] for _ in range(1500)]
    assert ks_2samp(ours, theirs).pvalue > 0.01
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=0.03)
