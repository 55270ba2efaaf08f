"""Whether a generator reproduces the images it was trained on.

Held-out images of the same kind show how close to a training image a new image is by chance.
Carlini et al. 2023 (arXiv 2301.13188) make the same comparison for GANs and diffusion models with a
patch-wise distance; here the distance is the root mean square over pixels.
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
"""A sample is near if its distance is below this quantile of the held-out images' distances."""
SAMPLING_STEPS = 25


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training image, root mean square in grey levels of [-1024, 1024]."""

    samples: float
    """Median of the samples."""
    held_out: float
    """Median of the held-out images."""
    nearest: float
    """Smallest distance of a sample."""
    near: float
    """Share of the samples that are nearer than 95 % of the held-out images; 0.05 on average if
    nothing is memorised."""

    def __str__(self) -> str:
        """The figures in a sentence."""
        return (
            f"simulated images are {self.samples:.0f} grey levels from the nearest training image "
            f"(median; the nearest {self.nearest:.0f}), held-out images {self.held_out:.0f}; "
            f"{self.near:.0%} of them are nearer than 95 % of held-out images, expected are 5 %"
        )


def memorisation(
    samples: NDArray[np.floating], training: Images, held_out: Images
) -> Memorisation | None:
    """Compare samples (n, S, S) with training and held-out images. None if there are no samples or
    no held-out images."""
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
    """Root mean square distance (n,) from each image (n, S, S) to the nearest training image."""
    squared_distances = np.full(len(images), np.inf)
    given = images.reshape(len(images), -1).astype(np.float32)
    for start in range(0, len(training), 64):
        block = training[start : start + 64].astype(np.float32)
        block = block.reshape(len(block), -1)
        squared = (
            (given**2).mean(1)[:, None] + (block**2).mean(1) - 2 * given @ block.T / given.shape[1]
        )
        squared_distances = np.minimum(squared_distances, squared.min(axis=1))
    return np.asarray(np.sqrt(np.maximum(squared_distances, 0)), float)


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
        The trained generator.
    count
        Number of images.
    seed
        Seed of the noise.
    device
        Where to compute.
    condition
        Outcomes (K,) for all or (count, K) in {0, 1}, NaN for one that is not specified; None for
        no condition.
    guidance
        Strength of classifier-free guidance.
    steps
        Number of denoising steps.

    Returns
    -------
    array
        (count, S, S) float32 in [-1024, 1024].
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
