"""One round of a generator's training on one site's images, and its loss on others."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedrad.models.examples import Examples
from fedrad.models.schedule import one_cycle
from fedrad.models.settings import Share
from fedrad.models.training import TrainingFigures, balanced_order

from .network import Denoiser

WARMUP: Share = 0.1
"""Share of all rounds in which adamw's learning rate rises."""


@dataclass(frozen=True)
class Batch:
    """What a generator is shown, and must say: `noised` latents at `levels` (n,), under `condition`
    (n, K), NaN where an outcome is hidden or unknown; `target` has the shape of the latents."""

    noised: Tensor
    levels: Tensor
    condition: Tensor
    target: Tensor

    def loss(self, network: Denoiser) -> Tensor:
        """Mean squared error over the batch."""
        return functional.mse_loss(network(self.noised, self.levels, self.condition), self.target)


def draw(
    network: Denoiser,
    examples: Examples,
    rows: NDArray[np.int64],
    generator: torch.Generator,
    device: torch.device,
    *,
    hide: float,
) -> Batch:
    """Draw images of some rows at random levels of noise.

    Parameters
    ----------
    network
        The generator, for its latents and levels.
    examples
        The site's own images and outcomes.
    rows
        Which of them, (n,).
    generator
        On the CPU, so that the draws are the same on every device.
    device
        Where the batch goes.
    hide
        Probability that all outcomes of an image are hidden, for guidance.

    Returns
    -------
    Batch
    """
    images = torch.from_numpy(examples.images[rows].astype(np.float32)).unsqueeze(1)
    condition = torch.from_numpy(examples.labels[rows])
    levels = torch.randint(network.noise.steps, (len(rows),), generator=generator)
    hidden = torch.rand(len(rows), 1, generator=generator) < hide
    x = network.encode(images)
    noise = torch.randn(x.shape, generator=generator)
    return Batch(
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
    """Train a generator in place through one round.

    Every class of every outcome has its share of the draws, as in the classifier's training.

    Parameters
    ----------
    network
        What is trained.
    examples
        The site's own images and outcomes.
    round_
        Which round, from 0.
    rounds
        Of how many: the learning rate follows one cycle over all.
    seed
        Of all draws.
    device
        Where to train.
    progress
        Called with (step, steps) after each step.

    Returns
    -------
    TrainingFigures

    Raises
    ------
    ValueError
        No unit has a known outcome.
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
        batch = draw(network, examples, rows, draws, device, hide=settings.unconditional)
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
    """How well a generator denoises each image, at levels of noise that are the same at every
    call: rounds can be compared.

    Parameters
    ----------
    network
        The generator.
    examples
        N images with outcomes.
    device
        Where to compute.
    draws
        Levels of noise of each image.
    batch_size
        Images at once.

    Returns
    -------
    NDArray[np.float64]
        Mean squared error, (N,).
    """
    network.to(device).eval()
    generator = torch.Generator().manual_seed(0)
    total = np.zeros(len(examples))
    for _ in range(draws):
        for start in range(0, len(examples), batch_size):
            rows = np.arange(start, min(start + batch_size, len(examples)))
            batch = draw(network, examples, rows, generator, device, hide=0.0)
            said = network(batch.noised, batch.levels, batch.condition)
            error = (said - batch.target).square().mean(dim=(1, 2, 3))
            total[rows] += error.double().cpu().numpy()
    return total / draws
