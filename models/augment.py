"""Random changes of training images, on batches, reproducible by generator.

Source: Goedicke-Fritz et al. 2025, arXiv 2507.12269.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from .settings import Augmentation

BLACK = -1024.0
BLUR_KERNEL = 9


def augment(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Change each image of a batch by its own draw.

    `images` is (N, 1, S, S) float in [-1024, 1024], and so is the result. `generator` is on the
    CPU, so the draws are the same on every device.
    """
    images = _rotate_and_zoom(images, settings, generator)
    images = _flip(images, settings, generator)
    images = _blur(images, settings, generator)
    images = _drop_pixels(images, settings, generator)
    return images.clamp(BLACK, -BLACK)  # interpolation oversteps by the last bits of a float


def _rotate_and_zoom(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Both in one resampling, so an image is interpolated once, and not at all with both off."""
    count = len(images)
    angle = math.radians(settings.rotation) * (2 * torch.rand(count, generator=generator) - 1)
    area = 1 + settings.zoom * (2 * torch.rand(count, generator=generator) - 1)
    if not settings.rotation and not settings.zoom:
        return images
    from monai.networks.layers import AffineTransform  # here, for it takes seconds to import

    scale = area.sqrt()
    # Rows are x and y of the source, for x and y of the result, both in [-1, 1].
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = angle.cos() * scale, -angle.sin() * scale
    matrix[:, 1, 0], matrix[:, 1, 1] = angle.sin() * scale, angle.cos() * scale
    resample = AffineTransform(normalized=True, reverse_indexing=False, align_corners=False)
    # The resampler pads with zeros, so the fill is moved to zero and back.
    moved: Tensor = resample(images - settings.fill, matrix.to(images.device))
    return moved + settings.fill


def _flip(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    chosen = torch.rand(len(images), generator=generator) < settings.flip
    return torch.where(chosen.view(-1, 1, 1, 1).to(images.device), images.flip(-1), images)


def _blur(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    chosen = torch.rand(len(images), generator=generator) < settings.blur
    low, high = settings.blur_sigma
    sigmas = low + (high - low) * torch.rand(len(images), generator=generator)
    if not chosen.any():
        return images
    blurred = images.clone()
    for index in chosen.nonzero().flatten().tolist():
        blurred[index] = gaussian_blur(images[index], [BLUR_KERNEL] * 2, [float(sigmas[index])] * 2)
    return blurred


def _drop_pixels(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    chosen = torch.rand(len(images), generator=generator) < settings.drop
    if not chosen.any():
        return images
    kept = torch.rand(images.shape, generator=generator) >= settings.drop_share
    kept |= ~chosen.view(-1, 1, 1, 1)
    return torch.where(kept.to(images.device), images, settings.fill)


@dataclass(frozen=True)
class Mixed:
    """A batch after CutMix: images, both labels, and the share λ of the first label."""

    images: Tensor
    labels: Tensor
    other_labels: Tensor
    share: float


def cutmix(images: Tensor, labels: Tensor, generator: torch.Generator) -> Mixed:
    """Paste one box of a shuffled copy into a batch (Yun et al. 2019, arXiv 1905.04899).

    λ ~ Beta(1, 1) is uniform; one box for the whole batch, clipped at the border; the returned
    share is 1 - (clipped box area) / (image area), as measured, not as drawn.
    """
    height, width = images.shape[-2:]
    share, centre_y, centre_x = torch.rand(3, generator=generator).tolist()
    order = torch.randperm(len(images), generator=generator).to(images.device)
    cut = math.sqrt(1 - share)
    top, bottom = _clipped(centre_y * height, cut * height, height)
    left, right = _clipped(centre_x * width, cut * width, width)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[order][..., top:bottom, left:right]
    area = (bottom - top) * (right - left)
    return Mixed(mixed, labels, labels[order], 1 - area / (height * width))


def _clipped(centre: float, length: float, limit: int) -> tuple[int, int]:
    start, end = int(centre - length / 2), int(centre + length / 2)
    return max(0, start), min(limit, max(0, end))
