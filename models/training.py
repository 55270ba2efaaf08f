"""One round of the recipe on one site's images: the training loop, on one page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .augment import augment, cutmix
from .network import ResNet
from .schedule import Schedule, trainable_blocks
from .settings import Block, RecipeSettings


class Images(Protocol):
    """Images as an array, perhaps on disk: (N, S, S) float16 in [-1024, 1024]."""

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, rows: NDArray[np.int64] | slice, /) -> NDArray[np.float16]:
        """Some images, (n, S, S)."""
        ...


@dataclass(frozen=True)
class Examples:
    """Images with outcomes, one row per unit.

    `images`: (N, S, S) float16 in [-1024, 1024], may be on disk.
    `labels`: (N, K) float32 in {0, 1}, NaN where an outcome is missing.
    `patients`: (N,) whose unit each is, where patients have several; None: each a patient.
    """

    images: Images
    labels: NDArray[np.float32]
    patients: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of units."""
        return len(self.labels)


@dataclass(frozen=True)
class TrainingFigures:
    """What a round of training amounted to: mean loss over its steps, and their number."""

    loss: float
    steps: int


def train_round(
    network: ResNet,
    examples: Examples,
    schedule: Schedule,
    round_: int,
    *,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingFigures:
    """Train `network` in place through round `round_` (from 0) of the schedule.

    The optimiser starts afresh: with a handful of sites the averaged weights are not where any
    site's moments were gathered. `progress` is called with (step, steps).
    Raises ValueError for a cohort without a single known label.
    """
    recipe = schedule.recipe
    blocks = trainable_blocks(schedule.stage(round_))
    generator = torch.Generator().manual_seed(seed)
    network.to(device, memory_format=torch.channels_last)  # a third faster on CPU
    network.train_blocks(blocks, batchnorm_moves=recipe.batchnorm == "shared")
    optimizer = torch.optim.AdamW(_parameter_groups(network, blocks, schedule, round_))
    steps = recipe.local_epochs * -(-len(examples) // recipe.batch_size)
    total = 0.0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)  # dropout draws from the global generator
        order = balanced_order(examples.labels, steps * recipe.batch_size, generator)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(group["block"], round_ + step / steps)
            rows = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            images, labels = _batch(examples, rows, device)
            images = augment(images, recipe.augmentation, generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = _loss(network, images, labels, recipe, generator, schedule.in_probe(round_))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item()
            if progress:
                progress(step + 1, steps)
    return TrainingFigures(loss=total / steps, steps=steps)


def _loss(
    network: ResNet,
    images: Tensor,
    labels: Tensor,
    recipe: RecipeSettings,
    generator: torch.Generator,
    in_probe: bool,
) -> Tensor:
    """λ·L(labels) + (1-λ)·L(labels of the pasted image) where CutMix is drawn."""
    if not in_probe and torch.rand((), generator=generator) < recipe.cutmix:
        mixed = cutmix(images, labels, generator)
        logits = network(mixed.images)
        return mixed.share * masked_loss(logits, mixed.labels) + (1 - mixed.share) * masked_loss(
            logits, mixed.other_labels
        )
    return masked_loss(network(images), labels)


def masked_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy with logits over the known labels; (N, K) both, NaN is unknown."""
    known = ~labels.isnan()
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), labels.nan_to_num(), reduction="none"
    )
    return (losses * known).sum() / known.sum().clamp(min=1)


def balanced_order(
    labels: NDArray[np.float32], draws: int, generator: torch.Generator
) -> NDArray[np.int64]:
    """Rows drawn with replacement, by inverse class frequency.

    With several outcomes a unit's weight is the mean over its known outcomes. Returns (draws,).
    """
    known = ~np.isnan(labels)
    if not known.any():
        raise ValueError("no unit has a known outcome to train on")
    weights = np.zeros(labels.shape, dtype=np.float64)
    for outcome in range(labels.shape[1]):
        for value in (0.0, 1.0):
            of_class = labels[:, outcome] == value
            if of_class.any():
                weights[of_class, outcome] = 1.0 / of_class.sum()
    per_unit = weights.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    drawn = torch.multinomial(
        torch.from_numpy(per_unit), draws, replacement=True, generator=generator
    )
    return drawn.numpy()


def _parameter_groups(
    network: ResNet, blocks: tuple[Block, ...], schedule: Schedule, round_: int
) -> list[dict[str, object]]:
    recipe = schedule.recipe

    def decay(block: Block) -> float:
        if schedule.in_probe(round_):
            return recipe.probe_weight_decay
        return recipe.head_weight_decay if block == "head" else recipe.backbone_weight_decay

    return [
        {
            "params": [p for m in network.block_modules(block) for p in m.parameters()],
            "block": block,
            "weight_decay": decay(block),
        }
        for block in blocks
    ]


def _batch(
    examples: Examples, rows: NDArray[np.int64], device: torch.device
) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(examples.images[rows].astype(np.float32)).unsqueeze(1)
    images = images.to(device, memory_format=torch.channels_last)
    return images, torch.from_numpy(examples.labels[rows]).to(device)


@torch.no_grad()
def score(
    network: ResNet, images: Images, *, device: torch.device, batch_size: int = 32
) -> NDArray[np.float64]:
    """Logits (N, K) of images (N, S, S), in float32 arithmetic on every device."""
    network.to(device, memory_format=torch.channels_last).eval()
    logits = []
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(images[start : start + batch_size].astype(np.float32))
        batch = batch.unsqueeze(1).to(device, memory_format=torch.channels_last)
        logits.append(network(batch))
    if not logits:
        return np.zeros((0, network.fc.out_features))
    return torch.cat(logits).double().cpu().numpy()
