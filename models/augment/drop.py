"""Dropped pixels. Published: a quarter of the pixels in a tenth of the images (Goedicke-Fritz et
al. 2025, arXiv 2507.12269)."""

import torch
from torch import Tensor

from fedrad.models.settings import AugmentationSettings

from .augmentation import PixelChange


class Drop(PixelChange):
    """Chooses an image with probability `drop`, and drops each pixel of it with `drop_share`."""

    name = "drop"

    def apply(
        self, images: Tensor, settings: AugmentationSettings, generator: torch.Generator
    ) -> Tensor:
        """Set dropped pixels to `fill`; see `PixelChange.apply`."""
        chosen = torch.rand(len(images), generator=generator) < settings.drop
        if not chosen.any():
            return images
        unchanged = torch.rand(images.shape, generator=generator) >= settings.drop_share
        unchanged |= ~chosen.view(-1, 1, 1, 1)
        return torch.where(unchanged.to(images.device), images, settings.fill)
