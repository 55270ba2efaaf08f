"""Random changes of training images, on batches, reproducible by seed.

One file holds one augmentation; here they stand in the order in which they are applied. Each draws
from a stream of its own, so that switching one off does not move the others' draws.
Source: Goedicke-Fritz et al. 2025, arXiv 2507.12269.
"""

from torch import Tensor

from fedrad.models.settings import VALUE_RANGE, AugmentationSettings
from fedrad.models.streams import Streams

from .augmentation import Augmentation, PixelChange, Warp, resample
from .blur import Blur
from .drop import Drop
from .flip import Flip
from .rotation import Rotation
from .zoom import Zoom

WARPS: tuple[Warp, ...] = (Rotation(), Zoom())
"""Applied first, and in one resampling."""
PIXEL_CHANGES: tuple[PixelChange, ...] = (Flip(), Blur(), Drop())
AUGMENTATIONS: tuple[Augmentation, ...] = (*WARPS, *PIXEL_CHANGES)
"""All, in the order in which they are applied."""


def augment(images: Tensor, settings: AugmentationSettings, streams: Streams) -> Tensor:
    """Change each image of a batch by its own draws.

    Parameters
    ----------
    images
        (N, 1, S, S) float in [-1024, 1024]; left as they are.
    settings
        Probabilities and ranges; 0 turns an augmentation off.
    streams
        What is drawn from; each augmentation has the stream of its name.

    Returns
    -------
    Tensor
        (N, 1, S, S) float in [-1024, 1024].
    """
    matrices = [
        warp.matrices(len(images), settings, streams.generator(warp.name))
        for warp in WARPS
        if warp.is_on(settings)
    ]
    if matrices:
        images = resample(images, matrices, settings.fill)
    for change in PIXEL_CHANGES:
        if change.is_on(settings):
            images = change.apply(images, settings, streams.generator(change.name))
    return images.clamp(*VALUE_RANGE)  # interpolation oversteps by the last bits of a float


def switched_off(*but: str) -> dict[str, float]:
    """`recipe.augmentation` with every augmentation switched off, but those named: they keep
    their defaults."""
    return {each.name: 0.0 for each in AUGMENTATIONS if each.name not in but}


__all__ = [
    "AUGMENTATIONS",
    "PIXEL_CHANGES",
    "WARPS",
    "Augmentation",
    "PixelChange",
    "Warp",
    "augment",
    "switched_off",
]
