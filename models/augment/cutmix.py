"""CutMix: a box of one image is pasted into another, and labels are weighted by area.

It is no `Augmentation`, because it mixes pairs of images and their labels; training calls it after
the augmentations. MixUp would be another function that returns `Mixed`.

Source: Yun et al. 2019, CutMix, ICCV; arXiv 1905.04899.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixed:
    """A batch after CutMix.

    Attributes
    ----------
    images
        (N, 1, S, S).
    labels
        Labels of the images, (N, K).
    other_labels
        Labels of the images pasted into them, (N, K).
    share
        λ in [0, 1]: share of `labels` in the loss; 1 - λ is that of `other_labels`.
    """

    images: Tensor
    labels: Tensor
    other_labels: Tensor
    share: float


def cutmix(images: Tensor, labels: Tensor, generator: torch.Generator) -> Mixed:
    """Paste the same box of a shuffled copy into all images of a batch.

    λ ~ Beta(1, 1), which is uniform. The box is clipped at the border of the image, and the
    returned share is 1 - (area of the clipped box) / (area of the image).

    Parameters
    ----------
    images
        (N, 1, S, S); they stay unchanged.
    labels
        (N, K).
    generator
        Random stream of CutMix, on the CPU.

    Returns
    -------
    Mixed
        Images, both labels, and the share of the first.
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
