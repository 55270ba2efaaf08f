"""Pixels that are lost. Published: a quarter of the pixels of every tenth image (Goedicke-Fritz et
al. 2025, arXiv 2507.12269)."""

import torch
from torch import Tensor

from fedrad.models.settings import AugmentationSettings

from .augmentation import PixelChange


class Drop(PixelChange):
    """With a probability of `drop` an image loses each pixel with one of `drop_share`."""

    name = "drop"

    def apply(
        self, images: Tensor, settings: AugmentationSettings, generator: torch.Generator
    ) -> Tensor:
        """Set lost pixels to `fill`; see `PixelChange.apply`."""
        chosen = torch.rand(len(images), generator=generator) < settings.drop
        if not chosen.any():
            return images
        kept = torch.rand(images.shape, generator=generator) >= settings.drop_share
        kept |= ~chosen.view(-1, 1, 1, 1)
        return torch.where(kept.to(images.device), images, settings.fill)
