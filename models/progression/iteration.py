"""The PIE iteration (Liang et al. 2023, arXiv 2309.11745), for any diffusion model."""

import logging
from hashlib import sha256
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedrad.models.optimizer import TooLittleMemoryError
from fedrad.models.settings import ProgressionSettings

from .noise import NoiseSchedule
from .settings import PredictionTarget

log = logging.getLogger("fedrad.models")


class DiffusionGenerator(Protocol):
    """What the iteration needs of a diffusion model: three operations and its noise schedule.

    `prediction` is the quantity that the network predicts. `clip` is the bound of the latents of an
    image without noise; None if they are not bounded.
    """

    noise: NoiseSchedule
    prediction: PredictionTarget
    clip: float | None

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 1, S, S) in [-1024, 1024] -> latents (N, C, h, w)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> images (N, 1, S, S)."""
        ...

    def predict(self, latents: Tensor, t: int, condition: Tensor | None) -> Tensor:
        """The network's output for latents at noise level `t`. `condition` is (N, K) outcomes in
        {0, 1}, NaN for one that is not specified; None for no condition."""
        ...


@torch.no_grad()
def simulate_progression(
    generator: DiffusionGenerator,
    images: NDArray[np.floating],
    condition: NDArray[np.floating],
    settings: ProgressionSettings,
    *,
    device: torch.device,
    mask: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Edit images step by step towards a condition.

    Each step starts from the previous one. It adds noise, denoises with guidance, and is blended
    into the latents z⁰ of the original: z⁰ + β·(z - z⁰), with β₁ outside the region and β₂ inside.
    From the second step on, the part outside is replaced by the noised original at every denoising
    step. The noise of an image depends on the seed and on its pixels only, not on its batch.

    Parameters
    ----------
    generator
        The diffusion model.
    images
        (M, S, S) in [-1024, 1024].
    condition
        (K,) for all images or (M, K), as in `DiffusionGenerator.predict`.
    settings
        Number of steps, strength of noise, guidance, blending, seed, and batch size.
    device
        Where to compute. If its memory is too small for a batch, the batch is halved.
    mask
        (M, S, S) or (S, S) in [0, 1], 1 inside the region; None for the whole image.

    Returns
    -------
    array
        (M, N + 1, S, S) float32 in [-1024, 1024]: each image followed by its N edits.

    Raises
    ------
    ValueError
        If the shape of the mask does not fit.
    TooLittleMemoryError
        If not even one image fits into memory.

    References
    ----------
    Liang et al. 2023, "PIE: Simulating Disease Progression via Progressive Image Editing",
    arXiv 2309.11745.
    """
    count, side = len(images), images.shape[-1]
    conditions = np.broadcast_to(condition, (count, np.shape(condition)[-1]))
    masks = np.ones((count, side, side), np.float32)
    if mask is not None:
        if mask.shape not in ((side, side), (count, side, side)):
            raise ValueError(f"mask is {mask.shape}, the images are {images.shape}")
        masks = np.broadcast_to(mask, masks.shape).astype(np.float32)
    edited, start, batch = [], 0, settings.batch
    while start < count:
        rows = slice(start, start + batch)
        try:
            edited.append(
                _edit(generator, images[rows], conditions[rows], masks[rows], settings, device)
            )
            start += batch
        except torch.OutOfMemoryError:
            if batch == 1:
                raise TooLittleMemoryError(
                    f"not even one image of {side} pixels can be edited in the memory of {device}: "
                    "another device, or a smaller generator"
                ) from None
            batch //= 2
            log.warning("too little memory on %s: images are edited %d at once", device, batch)
    return (
        np.concatenate(edited) if edited else np.zeros((0, settings.images + 1, side, side), "f4")
    )


def _edit(
    generator: DiffusionGenerator,
    images: NDArray[np.floating],
    conditions: NDArray[np.floating],
    masks: NDArray[np.float32],
    settings: ProgressionSettings,
    device: torch.device,
) -> NDArray[np.float32]:
    draws = [_random_stream(image, settings.seed) for image in images]
    x = torch.from_numpy(images.astype(np.float32)).unsqueeze(1).to(device)
    condition = torch.from_numpy(conditions.astype(np.float32)).to(device)
    original = generator.encode(x)
    region = functional.adaptive_avg_pool2d(
        torch.from_numpy(masks.copy()).unsqueeze(1).to(device),
        (original.shape[-2], original.shape[-1]),
    )
    blend = settings.outside * (1 - region) + settings.inside * region
    steps = [x]
    for number in range(settings.images):
        z = generator.encode(steps[-1]) if number else original
        noise = torch.stack([torch.randn(original.shape[1:], generator=draw) for draw in draws]).to(
            device
        )
        for index, (t, previous) in enumerate(
            generator.noise.levels(settings.steps, settings.edit_steps)
        ):
            if index == 0:
                z = generator.noise.add(z, noise, t)
            if number:
                z = generator.noise.add(original, noise, t) * (1 - region) + z * region
            output = guided(generator, z, t, condition, settings.guidance)
            z = generator.noise.step(z, output, t, previous, generator.prediction, generator.clip)
        z = original + blend * (z - original)
        # If nothing is blended in, return the original bit for bit: decoding could change it.
        edited = generator.decode(z) if bool(blend.any()) else x
        steps.append(edited.clamp(-1024, 1024))
    return torch.cat(steps, dim=1).float().cpu().numpy()


def guided(
    generator: DiffusionGenerator, z: Tensor, t: int, condition: Tensor | None, guidance: float
) -> Tensor:
    """Classifier-free guidance: u + g·(c - u), where c is the network's output for latents `z` at
    level `t` under the condition and u the output without it (Ho & Salimans 2022, arXiv
    2207.12598)."""
    if condition is None or guidance == 0:
        return generator.predict(z, t, None)
    conditioned = generator.predict(z, t, condition)
    if guidance == 1:
        return conditioned
    unconditional = generator.predict(z, t, None)
    return unconditional + guidance * (conditioned - unconditional)


def _random_stream(image: NDArray[np.floating], seed: int) -> torch.Generator:
    content = sha256(str(seed).encode() + image.astype(np.float32).tobytes())
    return torch.Generator().manual_seed(int.from_bytes(content.digest()[:7]))
