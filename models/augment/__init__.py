"""Augmentation: random changes of batches of training images, reproducible by seed.

Each augmentation is one module. The lists below have the order in which they are applied. Each has
its own random stream, so that switching one off does not change the draws of the others.
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
"""Applied first, in one resampling."""
PIXEL_CHANGES: tuple[PixelChange, ...] = (Flip(), Blur(), Drop())
AUGMENTATIONS: tuple[Augmentation, ...] = (*WARPS, *PIXEL_CHANGES)
"""All augmentations, in the order in which they are applied."""


def augment(images: Tensor, settings: AugmentationSettings, streams: Streams) -> Tensor:
    """Augment each image of a batch by its own random draws.

    Parameters
    ----------
    images
        (N, 1, S, S) float in [-1024, 1024]; they stay unchanged.
    settings
        Probabilities and ranges; 0 switches an augmentation off.
    streams
        Random streams; each augmentation uses the stream of its name.

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
    return images.clamp(*VALUE_RANGE)  # interpolation can exceed the range by rounding


def switched_off(*but: str) -> dict[str, float]:
    """Settings of `recipe.augmentation` with all augmentations off, except those named, which keep
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
