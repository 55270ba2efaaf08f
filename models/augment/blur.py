"""Gaussian blur. Published: half of the images, kernel 9, sigma 0.05 to 2 pixels (Goedicke-Fritz et
al. 2025, arXiv 2507.12269)."""

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from fedrad.models.settings import AugmentationSettings

from .augmentation import PixelChange

KERNEL = 9
"""Side of the blur's kernel, pixels."""


class Blur(PixelChange):
    """Blurs an image with probability `blur`, with a sigma from the range `blur_sigma`, pixels."""

    name = "blur"

    def apply(
        self, images: Tensor, settings: AugmentationSettings, generator: torch.Generator
    ) -> Tensor:
        """Blur by a kernel of 9 pixels; see `PixelChange.apply`."""
        chosen = torch.rand(len(images), generator=generator) < settings.blur
        low, high = settings.blur_sigma
        sigmas = low + (high - low) * torch.rand(len(images), generator=generator)
        blurred = images.clone()
        for index in chosen.nonzero().flatten().tolist():
            sigma = float(sigmas[index])
            blurred[index] = gaussian_blur(images[index], [KERNEL] * 2, [sigma] * 2)
        return blurred
