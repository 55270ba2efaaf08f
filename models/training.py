"""One round of the recipe on one site's images: the training loop, on one page."""

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
        Mean over the steps.
    steps
        Number of batches.
    moments
        AdamW's state by parameter; empty unless the recipe keeps it.
    adjustments
        What was done otherwise than asked for, and why.
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
        What is trained; afterwards it is on `device`.
    examples
        The site's own images and outcomes.
    schedule
        The recipe over all rounds.
    round_
        Which round, from 0.
    seed
        Of the order of the units, of dropout, and of all streams of augmentation.
    device
        Where to train. Random draws are the same on every device.
    moments
        AdamW's of an earlier round, used where the recipe keeps them.
    store
        Keeps what frozen blocks make of fixed views; without it the same is computed anew.
    progress
        Called with (step, steps) after each step.

    Returns
    -------
    TrainingFigures

    Raises
    ------
    ValueError
        No unit has a known outcome.
    TooLittleMemoryError
        Not even two images fit into the device's memory.
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

    Where CutMix is drawn: λ·L(labels) + (1-λ)·L(labels of the pasted images).
    """
    if torch.rand((), generator=generator) < probability:
        mixed = cutmix(views.images(drawn), labels, generator)
        return frozen.outputs(mixed.images), [
            (mixed.labels, mixed.share),
            (mixed.other_labels, 1 - mixed.share),
        ]
    return frozen.outputs(drawn), [(labels, 1.0)]


def _starts(schedule: Schedule, round_: int) -> set[Block]:
    """Last frozen blocks of this and the later stages: where training will start from."""
    stages = {schedule.stage(later) for later in range(round_, schedule.rounds)}
    return {blocks[-1] for blocks in map(frozen_blocks, stages) if blocks}


def balanced_order(
    labels: NDArray[np.float32], draws: int, generator: torch.Generator
) -> NDArray[np.int64]:
    """Rows drawn with replacement so that every outcome, and each of its classes, is served.

    A draw is that of an outcome, then of one of its classes, then of a unit of that class, each
    with equal chances. So each of the C classes of each of the K outcomes has at least 1/(K·C) of
    the draws, however rare it is and however many labels are missing. With one outcome this is
    sampling by inverse class frequency.

    Parameters
    ----------
    labels
        (N, K) in {0, 1}, NaN where an outcome is unknown.
    draws
        How many rows to draw.
    generator
        On the CPU.

    Returns
    -------
    NDArray[np.int64]
        Rows in [0, N), (draws,).

    Raises
    ------
    ValueError
        No label is known.
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
        In evaluation mode afterwards, and on `device`.
    images
        (N, S, S) in [-1024, 1024], perhaps on disk.
    device
        Where to compute.
    batch_size
        Images at once.

    Returns
    -------
    NDArray[np.float64]
        Raw logits, (N, K).
    """
    return _run(network, BLOCKS, network.fc.out_features, images, device, batch_size).astype(float)


def features(
    network: ResNet, images: Images, *, device: torch.device, batch_size: int = 32
) -> NDArray[np.float32]:
    """What the head is given of images, (N, F), in float32 arithmetic; arguments as of `score`."""
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
    found = [np.zeros((0, width), np.float32)]
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(images[start : start + batch_size].astype(np.float32))
        batch = batch.unsqueeze(1).to(device, memory_format=torch.channels_last)
        found.append(network.run(blocks, batch).cpu().numpy())
    return np.concatenate(found)
