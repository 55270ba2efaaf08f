"""The noise schedule of a diffusion model. Levels are t = 0 … T-1, and -1 is without noise.

ᾱ_t is the image's share of the variance at level t: x_t = √ᾱ_t·x₀ + √(1-ᾱ_t)·ε. The velocity is
v = √ᾱ_t·ε - √(1-ᾱ_t)·x₀ (Salimans & Ho 2022, arXiv 2202.00512).
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from .settings import NoiseSettings, PredictionTarget


class NoiseSchedule:
    """The levels of noise of a generator, with the operations that add and remove noise."""

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
        """√ᾱ_t and √(1-ᾱ_t) as factors of (N, C, h, w), with device and type of `like`. `t` is one
        level or (N,); level -1 gives 1 and 0."""
        levels = torch.as_tensor(t).reshape(-1, 1, 1, 1).cpu()
        alpha_bar = self._alpha_bar[levels]
        return tuple(  # type: ignore[return-value]
            share.sqrt().to(like.device, like.dtype) for share in (alpha_bar, 1 - alpha_bar)
        )

    def add(self, x: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """Add noise to `x` (N, C, h, w) up to level `t`, which is one level or (N,)."""
        signal, spread = self.factors(t, x)
        return signal * x + spread * noise

    def target(
        self, x: Tensor, noise: Tensor, t: Tensor | int, prediction: PredictionTarget
    ) -> Tensor:
        """The correct output of the network for a noised image.

        Parameters
        ----------
        x
            The image or its latents x₀, (N, C, h, w).
        noise
            The added noise ε, (N, C, h, w).
        t
            Noise level: one, or (N,).
        prediction
            The quantity that the network predicts.

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
        prediction: PredictionTarget,
        clip: float | None = None,
    ) -> Tensor:
        """One deterministic DDIM step from level `t` to level `previous`.

        Parameters
        ----------
        x
            Noised latents, (N, C, h, w).
        output
            The network's output for `x`.
        t, previous
            Current level, and the lower level that the step leads to.
        prediction
            The quantity that `output` estimates.
        clip
            Bound of the image without noise; the noise is then recomputed from the clipped image.

        References
        ----------
        Song et al. 2020, arXiv 2010.02502, eq. 12 with σ = 0.
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
        """The last `taken` of `steps` evenly spaced steps from pure noise to the image.

        Yields pairs of a level and the next lower level; the last pair ends with -1. For T = 1000,
        `steps` = 50 and `taken` = 25 these are (499, 479), … (19, -1). Raises ValueError for more
        steps than levels.
        """
        if not 1 <= taken <= steps <= self.steps:
            raise ValueError(f"{taken} of {steps} steps over {self.steps} levels of noise")
        marks = [round(k * self.steps / steps) - 1 for k in range(taken, -1, -1)]
        return pairwise(marks)
