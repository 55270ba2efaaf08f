"""What an augmentation is: a random change of training images that one setting turns off."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fedrad.models.settings import AugmentationSettings


class Augmentation(ABC):
    """A random change of the images of a batch, each by its own draw.

    Attributes
    ----------
    name
        Its key in `recipe.augmentation`, of which 0 turns it off, and the name of the stream that
        it draws from. Further keys of one augmentation begin with its name: `blur`, `blur_sigma`.
    """

    name: ClassVar[str]

    def is_on(self, settings: AugmentationSettings) -> bool:
        """Whether the settings ask for it."""
        return bool(getattr(settings, self.name))


class PixelChange(Augmentation):
    """An augmentation that makes new pixels of an image's own."""

    @abstractmethod
    def apply(
        self, images: Tensor, settings: AugmentationSettings, generator: torch.Generator
    ) -> Tensor:
        """Change each image by its own draw.

        Parameters
        ----------
        images
            (N, 1, S, S) float in [-1024, 1024]; left as they are.
        settings
            Its own probability or range, and further keys of its own.
        generator
            Its own stream, on the CPU, so that the draws are the same on every device.

        Returns
        -------
        Tensor
            (N, 1, S, S) float in the same range.
        """


class Warp(Augmentation):
    """An augmentation that moves what is in the image. All of them share one resampling."""

    @abstractmethod
    def matrices(
        self, count: int, settings: AugmentationSettings, generator: torch.Generator
    ) -> Tensor:
        """Where each place of the result lies in the image.

        Parameters
        ----------
        count
            Number of images, N.
        settings
            Its own range.
        generator
            Its own stream, on the CPU.

        Returns
        -------
        Tensor
            (N, 2, 2) float: from (x, y) of the result to (x, y) of the image, both in [-1, 1]
            with the centre of the image at 0.
        """


def resample(images: Tensor, matrices: Sequence[Tensor], fill: float) -> Tensor:
    """Warp images bilinearly, once for all warps, so that an image is interpolated once.

    Parameters
    ----------
    images
        (N, 1, S, S) float in [-1024, 1024].
    matrices
        Those of the warps, (N, 2, 2) each, in the order in which the warps are applied.
    fill
        What lies beyond the image becomes, in [-1024, 1024].

    Returns
    -------
    Tensor
        (N, 1, S, S) float; interpolation may overstep the range by the last bits of a float.
    """
    from monai.networks.layers import AffineTransform  # here, for it takes seconds to import

    together = matrices[0]
    for matrix in matrices[1:]:
        together = together @ matrix
    theta = torch.nn.functional.pad(together, (0, 1))  # (N, 2, 3), without translation
    transform = AffineTransform(normalized=True, reverse_indexing=False, align_corners=False)
    # It pads with zeros, so the fill is moved to zero and back.
    warped: Tensor = transform(images - fill, theta.to(images.device))
    return warped + fill
