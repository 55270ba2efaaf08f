"""Horizontal flip. Published: half of the images (Goedicke-Fritz et al. 2025, arXiv
2507.12269)."""

import torch
from torch import Tensor

from fedrad.models.settings import AugmentationSettings

from .augmentation import PixelChange


class Flip(PixelChange):
    """Mirrors an image with probability `flip`, which puts the heart on the right."""

    name = "flip"

    def apply(
        self, images: Tensor, settings: AugmentationSettings, generator: torch.Generator
    ) -> Tensor:
        """Mirror left and right; see `PixelChange.apply`."""
        chosen = torch.rand(len(images), generator=generator) < settings.flip
        return torch.where(chosen.view(-1, 1, 1, 1).to(images.device), images.flip(-1), images)
