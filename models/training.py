"""One round of training on one site's images, and scores of images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .activations import ActivationStore, FrozenBlocks
from .augment.cutmix import cutmix
from .examples import DrawnViews, Examples, Images, Views
from .network import ResNet
from .optimizer import Gradients, Targets, adamw, moments_of
from .schedule import Schedule, frozen_blocks, trainable_blocks
from .settings import BLOCKS, Block
from .streams import Streams


@dataclass(frozen=True)
class TrainingFigures:
    """The outcome of a round of training.

    Attributes
    ----------
    loss
        Mean loss over the steps.
    steps
        Number of batches.
    moments
        AdamW's state by parameter; empty unless the recipe keeps it.
    adjustments
        Sentences on what was done differently from the settings, and why.
    """

    loss: float
    steps: int
    moments: dict[str, Tensor] = field(default_factory=dict)
    adjustments: tuple[str, ...] = ()


def train_round(
    network: ResNet,
    examples: Examples,
    schedule: Schedule,
    round_: int,
    *,
    seed: int,
    device: torch.device,
    moments: Mapping[str, Tensor] | None = None,
    store: ActivationStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingFigures:
    """Train `network` in place through one round of the schedule.

    Parameters
    ----------
    network
        The network; afterwards it is on `device`.
    examples
        The site's own images and outcomes.
    schedule
        The recipe over all rounds.
    round_
        Number of the round, from 0.
    seed
        Seed of the order of units, of dropout, and of all streams of augmentation.
    device
        Where to train. Random draws are the same on every device.
    moments
        AdamW's state after an earlier round, used if the recipe keeps it.
    store
        Store for the outputs of frozen blocks; without it they are computed at every use, with the
        same result.
    progress
        Called with (step, steps) after each step.

    Returns
    -------
    TrainingFigures

    Raises
    ------
    ValueError
        If no unit has a known outcome.
    TooLittleMemoryError
        If not even two images fit into the device's memory.
    """
    recipe, stage = schedule.recipe, schedule.stage(round_)
    mixing = 0.0 if schedule.in_probe(round_) else recipe.cutmix
    streams = Streams(seed)
    network.to(device, memory_format=torch.channels_last)  # a third faster on CPU
    network.train_blocks(trainable_blocks(stage), batchnorm_moves=recipe.batchnorm != "frozen")
    optimizer = adamw(network, schedule, round_, moments or {})
    gradients = Gradients(network, trainable_blocks(stage), recipe)
    views = Views(examples, recipe, device)
    frozen = FrozenBlocks(network, frozen_blocks(stage), views, store, _starts(schedule, round_))
    steps = recipe.local_epochs * -(-len(examples) // recipe.batch_size)
    total = 0.0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)  # dropout draws from the global generator
        order = balanced_order(
            examples.labels, steps * recipe.batch_size, torch.Generator().manual_seed(seed)
        )
        for step in range(steps):
            position = round_ + step / steps
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(group["block"], position)
                group["betas"] = (schedule.momentum(position), group["betas"][1])
            rows = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            drawn, labels = views.draw(rows, streams)
            with gradients.precision():
                inputs, targets = _mix(
                    drawn, labels, views, frozen, mixing, streams.generator("cutmix")
                )
            total += gradients.compute(inputs, targets)
            gradients.apply(optimizer)
            if progress:
                progress(step + 1, steps)
    return TrainingFigures(
        loss=total / steps,
        steps=steps,
        moments=moments_of(optimizer, network, schedule, round_),
        adjustments=(*gradients.adjustments, *frozen.adjustments),
    )


def _mix(
    drawn: DrawnViews,
    labels: Tensor,
    views: Views,
    frozen: FrozenBlocks,
    probability: float,
    generator: torch.Generator,
) -> tuple[Tensor, Targets]:
    """Inputs of the trainable blocks, and labels with their share in the loss.

    With CutMix the loss is λ·L(labels) + (1-λ)·L(labels of the pasted images).
    """
    if torch.rand((), generator=generator) < probability:
        mixed = cutmix(views.images(drawn), labels, generator)
        return frozen.outputs(mixed.images), [
            (mixed.labels, mixed.share),
            (mixed.other_labels, 1 - mixed.share),
        ]
    return frozen.outputs(drawn), [(labels, 1.0)]


def _starts(schedule: Schedule, round_: int) -> set[Block]:
    """Last frozen blocks of this and later stages, whose outputs training starts from."""
    stages = {schedule.stage(later) for later in range(round_, schedule.rounds)}
    return {blocks[-1] for blocks in map(frozen_blocks, stages) if blocks}


def balanced_order(
    labels: NDArray[np.float32], draws: int, generator: torch.Generator
) -> NDArray[np.int64]:
    """Draw rows with replacement, balanced over outcomes and their classes.

    Each draw takes an outcome, then one of its classes, then a unit of that class, each with equal
    probability. So each of the C classes of each of the K outcomes has at least 1/(K·C) of the
    draws, however rare it is and however many labels are missing. For one outcome this is sampling
    by inverse class frequency.

    Parameters
    ----------
    labels
        (N, K) in {0, 1}, NaN where an outcome is unknown.
    draws
        Number of rows to draw.
    generator
        Generator on the CPU.

    Returns
    -------
    NDArray[np.int64]
        Rows in [0, N), (draws,).

    Raises
    ------
    ValueError
        If no label is known.
    """
    weights = np.zeros(len(labels))
    for outcome in labels.T:
        classes = [outcome == value for value in (0.0, 1.0) if (outcome == value).any()]
        for of_class in classes:
            weights[of_class] += 1.0 / (len(classes) * of_class.sum())
    if not weights.any():
        raise ValueError("no unit has a known outcome to train on")
    drawn = torch.multinomial(
        torch.from_numpy(weights), draws, replacement=True, generator=generator
    )
    return drawn.numpy()


def score(
    network: ResNet, images: Images, *, device: torch.device, batch_size: int = 32
) -> NDArray[np.float64]:
    """Score images, in float32 arithmetic on every device.

    Parameters
    ----------
    network
        The network; afterwards it is in evaluation mode and on `device`.
    images
        (N, S, S) in [-1024, 1024], in memory or on disk.
    device
        Where to compute.
    batch_size
        Number of images computed at once.

    Returns
    -------
    NDArray[np.float64]
        Raw logits, (N, K).
    """
    return _run(network, BLOCKS, network.fc.out_features, images, device, batch_size).astype(float)


def features(
    network: ResNet, images: Images, *, device: torch.device, batch_size: int = 32
) -> NDArray[np.float32]:
    """Input of the head for each image, (N, F), in float32 arithmetic; parameters as of `score`."""
    return _run(network, BLOCKS[:-1], network.fc.in_features, images, device, batch_size)


@torch.no_grad()
def _run(
    network: ResNet,
    blocks: Sequence[Block],
    width: int,
    images: Images,
    device: torch.device,
    batch_size: int,
) -> NDArray[np.float32]:
    network.to(device, memory_format=torch.channels_last).eval()
    outputs = [np.zeros((0, width), np.float32)]
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(images[start : start + batch_size].astype(np.float32))
        batch = batch.unsqueeze(1).to(device, memory_format=torch.channels_last)
        outputs.append(network.run(blocks, batch).cpu().numpy())
    return np.concatenate(outputs)
