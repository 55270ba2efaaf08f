"""The interface of an augmentation: a random change of training images."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fedrad.models.settings import AugmentationSettings


class Augmentation(ABC):
    """A random change of the images of a batch; each image has its own draw.

    Attributes
    ----------
    name
        Name of its random stream, and its key in `recipe.augmentation`; 0 switches it off. Further
        keys begin with this name: `blur`, `blur_sigma`.
    """

    name: ClassVar[str]

    def is_on(self, settings: AugmentationSettings) -> bool:
        """Whether the settings switch it on."""
        return bool(getattr(settings, self.name))


class PixelChange(Augmentation):
    """An augmentation that computes new pixel values."""

    @abstractmethod
    def apply(
        self, images: Tensor, settings: AugmentationSettings, generator: torch.Generator
    ) -> Tensor:
        """Change each image by its own draw.

        Parameters
        ----------
        images
            (N, 1, S, S) float in [-1024, 1024]; they stay unchanged.
        settings
            Hold the probability or range of this augmentation, and its further keys.
        generator
            Its random stream, on the CPU, so that draws are the same on every device.

        Returns
        -------
        Tensor
            (N, 1, S, S) float in the same range.
        """


class Warp(Augmentation):
    """An augmentation that moves the content of an image. All warps share one resampling."""

    @abstractmethod
    def matrices(
        self, count: int, settings: AugmentationSettings, generator: torch.Generator
    ) -> Tensor:
        """Linear maps from positions in the result to positions in the image.

        Parameters
        ----------
        count
            Number of images, N.
        settings
            Hold the range of this augmentation.
        generator
            Its random stream, on the CPU.

        Returns
        -------
        Tensor
            (N, 2, 2) float: from (x, y) of the result to (x, y) of the image, both in [-1, 1]
            with the centre of the image at 0.
        """


def resample(images: Tensor, matrices: Sequence[Tensor], fill: float) -> Tensor:
    """Apply all warps in one bilinear interpolation.

    Parameters
    ----------
    images
        (N, 1, S, S) float in [-1024, 1024].
    matrices
        Matrices of the warps, (N, 2, 2) each, in the order in which the warps are applied.
    fill
        Value of pixels beyond the edge of the image, in [-1024, 1024].

    Returns
    -------
    Tensor
        (N, 1, S, S) float; interpolation can exceed the range by rounding.
    """
    from monai.networks.layers import AffineTransform  # imported here, because it takes seconds

    together = matrices[0]
    for matrix in matrices[1:]:
        together = together @ matrix
    theta = torch.nn.functional.pad(together, (0, 1))  # (N, 2, 3), without translation
    transform = AffineTransform(normalized=True, reverse_indexing=False, align_corners=False)
    # MONAI pads with zeros, so the fill value is shifted to zero and back.
    warped: Tensor = transform(images - fill, theta.to(images.device))
    return warped + fill
