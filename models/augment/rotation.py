"""Rotation about the centre. Published: ±5° (Goedicke-Fritz et al. 2025, arXiv 2507.12269)."""

import math

import torch
from torch import Tensor

from fedrad.models.settings import AugmentationSettings

from .augmentation import Warp


class Rotation(Warp):
    """Rotates every image by an angle drawn uniformly from ±`rotation` degrees."""

    name = "rotation"

    def matrices(
        self, count: int, settings: AugmentationSettings, generator: torch.Generator
    ) -> Tensor:
        """Rotation matrices (N, 2, 2); see `Warp.matrices`."""
        drawn = 2 * torch.rand(count, generator=generator) - 1
        angle = math.radians(settings.rotation) * drawn
        rows = (angle.cos(), -angle.sin(), angle.sin(), angle.cos())
        return torch.stack(rows, dim=1).view(count, 2, 2)
