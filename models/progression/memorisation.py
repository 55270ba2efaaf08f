"""Does a generator give back the images it was trained on?

Held-out images of the same kind say how near to a training image an image is that nobody copied
(the same comparison for GANs and diffusion models: Carlini et al. 2023, arXiv 2301.13188, who use
a patch-wise distance; here the root mean square over pixels).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fedrad.models.examples import Images

from .iteration import guided
from .network import Denoiser

NEAR_QUANTILE = 0.05
"""Quantile of the held-out images' distances below which a sample counts as near."""
SAMPLING_STEPS = 25


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training image, root mean square in grey levels of [-1024, 1024]:
    medians of samples and of held-out images, the smallest of a sample, and the share of samples
    nearer than all but 5 % of held-out images (0.05 where nothing is memorised)."""

    samples: float
    held_out: float
    nearest: float
    near: float

    def __str__(self) -> str:
        """In a sentence."""
        return (
            f"simulated images are {self.samples:.0f} grey levels from the nearest training image "
            f"(median; the nearest {self.nearest:.0f}), held-out images {self.held_out:.0f}; "
            f"{self.near:.0%} of them are nearer than 95 % of held-out images, expected are 5 %"
        )


def memorisation(
    samples: NDArray[np.floating], training: Images, held_out: Images
) -> Memorisation | None:
    """Compare samples with training and held-out images.

    Parameters
    ----------
    samples
        Images that the generator drew, (n, S, S) in [-1024, 1024].
    training
        Images that it was trained on, (N, S, S).
    held_out
        Images of the same kind that it was not trained on, (H, S, S).

    Returns
    -------
    Memorisation | None
        None without a sample or a held-out image.
    """
    if not len(held_out) or not len(samples):
        return None
    of_samples = nearest_distances(samples, training)
    of_held_out = nearest_distances(held_out[:], training)
    return Memorisation(
        float(np.median(of_samples)),
        float(np.median(of_held_out)),
        float(of_samples.min()),
        float((of_samples < np.quantile(of_held_out, NEAR_QUANTILE)).mean()),
    )


def nearest_distances(images: NDArray[np.floating], training: Images) -> NDArray[np.float64]:
    """Root mean square difference (n,) of each of `images` (n, S, S) to the nearest of
    `training`."""
    found = np.full(len(images), np.inf)
    given = images.reshape(len(images), -1).astype(np.float32)
    for start in range(0, len(training), 64):
        block = training[start : start + 64].astype(np.float32)
        block = block.reshape(len(block), -1)
        squared = (
            (given**2).mean(1)[:, None] + (block**2).mean(1) - 2 * given @ block.T / given.shape[1]
        )
        found = np.minimum(found, squared.min(axis=1))
    return np.asarray(np.sqrt(np.maximum(found, 0)), float)


@torch.no_grad()
def sample_images(
    network: Denoiser,
    count: int,
    *,
    seed: int,
    device: torch.device,
    condition: NDArray[np.floating] | None = None,
    guidance: float = 1.0,
    steps: int = SAMPLING_STEPS,
) -> NDArray[np.float32]:
    """Draw images from pure noise.

    Parameters
    ----------
    network
        The generator.
    count
        How many images.
    seed
        Of the noise.
    device
        Where to compute.
    condition
        (K,) for all or (count, K), in {0, 1}, NaN for an outcome left open; None: no condition.
    guidance
        Of classifier-free guidance; 1: the condition as it is.
    steps
        Denoising steps.

    Returns
    -------
    NDArray[np.float32]
        (count, S, S) in [-1024, 1024].
    """
    network.to(device).eval()
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 1, network.size, network.size, generator=generator)
    z = functional.pixel_unshuffle(pixels, network.settings.patch).to(device)
    wanted = None
    if condition is not None:
        shape = (count, network.outcomes)
        wanted = torch.from_numpy(np.broadcast_to(condition, shape).astype("f4")).to(device)
    for t, previous in network.noise.levels(steps, steps):
        output = guided(network, z, t, wanted, guidance)
        z = network.noise.step(z, output, t, previous, network.prediction, network.clip)
    return network.decode(z).clamp(-1024, 1024)[:, 0].float().cpu().numpy()
