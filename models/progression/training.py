"""One round of training a generator on a site's images, and its loss on other images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedrad.models.examples import Examples
from fedrad.models.schedule import one_cycle
from fedrad.models.settings import Fraction
from fedrad.models.training import TrainingFigures, balanced_order

from .network import Denoiser

WARMUP: Fraction = 0.1
"""Share of all rounds during which the learning rate of adamw rises."""


@dataclass(frozen=True)
class DenoisingBatch:
    """Inputs and targets of one training step."""

    noised: Tensor
    """Noised latents, (n, C, h, w)."""
    levels: Tensor
    """Noise levels, (n,)."""
    condition: Tensor
    """Outcomes (n, K), NaN where hidden or unknown."""
    target: Tensor
    """Correct output of the network, with the shape of the latents."""

    def loss(self, network: Denoiser) -> Tensor:
        """Mean squared error over the batch."""
        return functional.mse_loss(network(self.noised, self.levels, self.condition), self.target)


def draw_batch(
    network: Denoiser,
    examples: Examples,
    rows: NDArray[np.int64],
    generator: torch.Generator,
    device: torch.device,
    *,
    hide: float,
) -> DenoisingBatch:
    """Noise images at random levels.

    Parameters
    ----------
    network
        The generator in training, for its latents and noise schedule.
    examples
        Images and outcomes.
    rows
        Rows of `examples` in the batch, (n,).
    generator
        Random generator on the CPU, so that draws are the same for every device.
    device
        Where to put the batch.
    hide
        Probability with which all outcomes of an image are hidden.
    """
    images = torch.from_numpy(examples.images[rows].astype(np.float32)).unsqueeze(1)
    condition = torch.from_numpy(examples.labels[rows])
    levels = torch.randint(network.noise.steps, (len(rows),), generator=generator)
    hidden = torch.rand(len(rows), 1, generator=generator) < hide
    x = network.encode(images)
    noise = torch.randn(x.shape, generator=generator)
    return DenoisingBatch(
        network.noise.add(x, noise, levels).to(device),
        levels.to(device),
        torch.where(hidden, torch.nan, condition).to(device),
        network.noise.target(x, noise, levels, network.prediction).to(device),
    )


def train_generator(
    network: Denoiser,
    examples: Examples,
    round_: int,
    rounds: int,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingFigures:
    """Train a generator in place for one round.

    Draws are balanced over the classes of every outcome, as in the training of a classifier.

    Parameters
    ----------
    network
        The generator. It is left on `device`, in evaluation mode.
    examples
        Training images and outcomes of the site.
    round_, rounds
        Number of this round, from 0, and of all rounds.
    seed
        Seed of order, noise and hidden outcomes.
    device
        Where to train.
    progress
        Called with the number of steps done and of all steps.

    Raises
    ------
    ValueError
        For a cohort without a known label.
    """
    settings = network.settings
    draws = torch.Generator().manual_seed(seed)
    network.to(device).to(memory_format=torch.channels_last).train()
    steps = settings.local_epochs * -(-len(examples) // settings.batch_size)
    order = balanced_order(examples.labels, steps * settings.batch_size, draws)
    optimizer: torch.optim.Optimizer
    if settings.optimizer == "sgd":
        optimizer = torch.optim.SGD(network.parameters(), lr=settings.learning_rate)
    else:
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.0)
    total = 0.0
    for step in range(steps):
        if settings.optimizer == "adamw":
            share = (round_ + step / steps) / rounds
            for group in optimizer.param_groups:
                group["lr"] = one_cycle(share, settings.learning_rate, WARMUP)
        rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
        batch = draw_batch(network, examples, rows, draws, device, hide=settings.unconditional)
        optimizer.zero_grad()
        loss = batch.loss(network)
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.optimizer == "adamw":
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if progress:
            progress(step + 1, steps)
    network.eval()
    return TrainingFigures(loss=total / steps, steps=steps)


@torch.no_grad()
def denoising_losses(
    network: Denoiser,
    examples: Examples,
    *,
    device: torch.device,
    draws: int = 8,
    batch_size: int = 32,
) -> NDArray[np.float64]:
    """Mean squared error of each image over random noise levels.

    The noise is the same in every call, so rounds can be compared.

    Parameters
    ----------
    network
        The generator.
    examples
        N images and their outcomes.
    device
        Where to compute.
    draws
        Number of noise levels for each image.
    batch_size
        Images at once.

    Returns
    -------
    array
        (N,).
    """
    network.to(device).eval()
    generator = torch.Generator().manual_seed(0)
    total = np.zeros(len(examples))
    for _ in range(draws):
        for start in range(0, len(examples), batch_size):
            rows = np.arange(start, min(start + batch_size, len(examples)))
            batch = draw_batch(network, examples, rows, generator, device, hide=0.0)
            predicted = network(batch.noised, batch.levels, batch.condition)
            error = (predicted - batch.target).square().mean(dim=(1, 2, 3))
            total[rows] += error.double().cpu().numpy()
    return total / draws
