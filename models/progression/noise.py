"""Noise and its removal: levels t = 0 … T-1, and -1 for an image without noise.

ᾱ_t is the share of the image's variance at level t: x_t = √ᾱ_t·x₀ + √(1-ᾱ_t)·ε, and the velocity
is v = √ᾱ_t·ε - √(1-ᾱ_t)·x₀ (Salimans & Ho 2022, arXiv 2202.00512).
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from .settings import NoiseSettings, Prediction


class Noise:
    """The levels of noise of a generator."""

    def __init__(self, settings: NoiseSettings) -> None:
        from monai.networks.schedulers.scheduler import NoiseSchedules  # takes seconds

        self.steps = settings.steps
        if settings.schedule == "cosine":
            cumulated = NoiseSchedules["cosine"](settings.steps)[2]
        else:
            betas = NoiseSchedules[f"{settings.schedule}_beta"](
                settings.steps, beta_start=settings.beta_start, beta_end=settings.beta_end
            )
            cumulated = (1 - betas.double()).cumprod(0)
        self._alpha_bar = torch.cat([cumulated.double(), torch.ones(1, dtype=torch.float64)])

    def factors(self, t: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1-ᾱ_t), to multiply (N, C, h, w) with; `t`: one level, or (N,). -1: (1, 0)."""
        levels = torch.as_tensor(t).reshape(-1, 1, 1, 1).cpu()
        alpha_bar = self._alpha_bar[levels]
        return tuple(  # type: ignore[return-value]
            share.sqrt().to(like.device, like.dtype) for share in (alpha_bar, 1 - alpha_bar)
        )

    def add(self, x: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """x₀ (N, C, h, w) noised to level t."""
        signal, spread = self.factors(t, x)
        return signal * x + spread * noise

    def target(self, x: Tensor, noise: Tensor, t: Tensor | int, prediction: Prediction) -> Tensor:
        """What a network that knew both would say of the noised image.

        Parameters
        ----------
        x
            The image x₀, (N, C, h, w).
        noise
            ε, (N, C, h, w).
        t
            One level, or (N,).
        prediction
            Whether the network says the noise, the image, or the velocity.

        Returns
        -------
        Tensor
            (N, C, h, w).
        """
        if prediction == "epsilon":
            return noise
        if prediction == "sample":
            return x
        signal, spread = self.factors(t, x)
        return signal * noise - spread * x

    def step(
        self,
        x: Tensor,
        output: Tensor,
        t: int,
        previous: int,
        prediction: Prediction,
        clip: float | None = None,
    ) -> Tensor:
        """One deterministic DDIM step (Song et al. 2020, arXiv 2010.02502, eq. 12 with σ = 0).

        Parameters
        ----------
        x
            Noised images, (N, C, h, w).
        output
            What the network said of them, (N, C, h, w).
        t
            Their level of noise.
        previous
            The level that the step leads to, below `t`.
        prediction
            Whether the network says the noise, the image, or the velocity.
        clip
            Bound of the image, by which the noise is then reckoned too; None: none.

        Returns
        -------
        Tensor
            Images at level `previous`, (N, C, h, w).
        """
        signal, spread = self.factors(t, x)
        if prediction == "epsilon":
            clean = (x - spread * output) / signal
        elif prediction == "sample":
            clean = output
        else:
            clean = signal * x - spread * output
        if clip is not None:
            clean = clean.clamp(-clip, clip)
        noise = (x - signal * clean) / spread
        return self.add(clean, noise, previous)

    def levels(self, steps: int, taken: int) -> Iterator[tuple[int, int]]:
        """The last `taken` of `steps` evenly spaced steps from pure noise, as pairs of level and
        the level it leads to; the last leads to -1. With T = 1000, 50 and 25: (499, 479), … (19,
        -1). Raises ValueError for more steps than levels."""
        if not 1 <= taken <= steps <= self.steps:
            raise ValueError(f"{taken} of {steps} steps over {self.steps} levels of noise")
        marks = [round(k * self.steps / steps) - 1 for k in range(taken, -1, -1)]
        return pairwise(marks)
