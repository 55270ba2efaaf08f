"""Zoom about the centre. Published: ±5 % of the area (Goedicke-Fritz et al. 2025, arXiv
2507.12269)."""

import torch
from torch import Tensor

from fedrad.models.settings import AugmentationSettings

from .augmentation import Warp


class Zoom(Warp):
    """Zooms every image; the visible area is drawn uniformly from 1 ± `zoom` times its own."""

    name = "zoom"

    def matrices(
        self, count: int, settings: AugmentationSettings, generator: torch.Generator
    ) -> Tensor:
        """Scale both sides by the square root of the area, (N, 2, 2); see `Warp.matrices`."""
        area = 1 + settings.zoom * (2 * torch.rand(count, generator=generator) - 1)
        return area.sqrt().view(-1, 1, 1) * torch.eye(2)
