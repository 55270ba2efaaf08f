"""AdamW over the blocks of a stage, and the gradients it steps along."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import ResNet
from .schedule import Schedule, trainable_blocks
from .settings import Block, RecipeSettings

Targets = list[tuple[Tensor, float]]
"""Labels (N, K) with their share in the loss: one pair, or the two of CutMix."""


class TooLittleMemoryError(RuntimeError):
    """The device cannot hold the smallest part of a batch that can be trained on."""


def adamw(
    network: ResNet, schedule: Schedule, round_: int, moments: Mapping[str, Tensor]
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with one group per trainable block.

    Parameters
    ----------
    network
        Whose blocks are trained.
    schedule
        The recipe over all rounds; weight decay is that of the part of the round.
    round_
        Which round, from 0.
    moments
        Those of an earlier round, as `moments_of` returns them. A block that has none, as it has
        just thawed, starts with fresh ones.

    Returns
    -------
    torch.optim.AdamW
        Each group has its `block`; learning rates are set at every step.
    """
    recipe, in_probe = schedule.recipe, schedule.in_probe(round_)

    def decay(block: Block) -> float:
        if in_probe:
            return recipe.probe_weight_decay
        return recipe.head_weight_decay if block == "head" else recipe.backbone_weight_decay

    optimizer = torch.optim.AdamW(
        [
            {
                "params": [p for m in network.block_modules(block) for p in m.parameters()],
                "block": block,
                "weight_decay": decay(block),
            }
            for block in trainable_blocks(schedule.stage(round_))
        ]
    )
    for name, parameter in network.named_parameters():
        prefix = _prefix(schedule, round_, name)
        kept = {k.removeprefix(prefix): v for k, v in moments.items() if k.startswith(prefix)}
        if parameter.requires_grad and kept:
            optimizer.state[parameter] = {
                key: value.clone() if key == "step" else torch.empty_like(parameter).copy_(value)
                for key, value in kept.items()
            }
    return optimizer


def moments_of(
    optimizer: torch.optim.AdamW, network: ResNet, schedule: Schedule, round_: int
) -> dict[str, Tensor]:
    """The state of AdamW after a round.

    Parameters
    ----------
    optimizer
        As `adamw` made it.
    network
        Whose parameters it moved.
    schedule
        The recipe over all rounds.
    round_
        Which round, from 0.

    Returns
    -------
    dict[str, Tensor]
        `part/parameter/kind` -> value, on the CPU; empty unless the recipe keeps moments.
    """
    if schedule.recipe.moments == "reset":
        return {}
    return {
        _prefix(schedule, round_, name) + key: value.detach().cpu().contiguous()
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _prefix(schedule: Schedule, round_: int, name: str) -> str:
    """Probe and main part have an optimiser each, as published: the names keep them apart."""
    return f"{'probe' if schedule.in_probe(round_) else 'main'}/{name}/"


def masked_loss(logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Binary cross-entropy with logits, the mean over the known labels.

    Parameters
    ----------
    logits
        (N, K).
    labels
        (N, K) in [0, 1], NaN where an outcome is unknown.
    known
        By how many labels the sum is divided, where this is a part of a batch: those of the whole.

    Returns
    -------
    Tensor
        A scalar; 0 where no label is known.
    """
    mask = ~labels.isnan()
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), labels.nan_to_num(), reduction="none"
    )
    return (losses * mask).sum() / (mask.sum() if known is None else known).clamp(min=1)


class Gradients:
    """Gradients of a batch's loss, in as many parts as the device's memory asks for.

    On a GPU the forward pass is in bfloat16, or where the card has none in float16 with scaled
    gradients. Where a batch does not fit it is halved until it does and the gradients are added
    up: the same mean over the batch, but each part is normalised by its own batch statistics.

    Parameters
    ----------
    network
        In training mode as the stage asks for, on its device.
    blocks
        Trainable blocks, from the image side to the head.
    recipe
        Its `proximal` term (Li et al. 2020, arXiv 1812.06127) pulls towards the weights that the
        network has now.
    """

    def __init__(self, network: ResNet, blocks: Iterable[Block], recipe: RecipeSettings) -> None:
        self.network = network
        self.blocks = tuple(blocks)
        self.proximal = recipe.proximal
        self.parts = 1
        self.adjustments: list[str] = []
        modules = [m for block in self.blocks for m in network.block_modules(block)]
        self.parameters = [p for m in modules for p in m.parameters()]
        self.buffers = [b for m in modules for b in m.buffers()]
        self.received = [p.detach().clone() for p in self.parameters] if recipe.proximal else []
        moving = any(isinstance(m, nn.BatchNorm2d) and m.training for m in network.modules())
        self.smallest = 2 if moving else 1  # one picture has no batch statistics
        self.device = self.parameters[0].device
        self.on_gpu = self.device.type == "cuda"
        native = self.on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        self.type = torch.bfloat16 if native or not self.on_gpu else torch.float16
        self.scaler = torch.GradScaler(enabled=self.on_gpu and self.type == torch.float16)

    def precision(self) -> AbstractContextManager[object]:
        """Mixed precision on a GPU; float32 on a CPU."""
        return torch.autocast(self.device.type, self.type, enabled=self.on_gpu)

    def compute(self, inputs: Tensor, targets: Targets) -> float:
        """Set the gradients of the loss of one batch.

        Parameters
        ----------
        inputs
            Of the first trainable block, (N, …).
        targets
            Labels (N, K) with their share in the loss.

        Returns
        -------
        float
            The loss.

        Raises
        ------
        TooLittleMemoryError
            The device cannot hold the smallest part of a batch.
        """
        while True:
            before = [buffer.clone() for buffer in self.buffers]
            try:
                return self._in_parts(inputs, targets)
            except torch.OutOfMemoryError:
                pass  # the frames of the failed pass hold memory until here
            for buffer, value in zip(self.buffers, before, strict=True):
                buffer.copy_(value)
            self._halve(len(inputs))

    def _halve(self, batch: int) -> None:
        self.parts *= 2
        if batch // self.parts < self.smallest:
            raise TooLittleMemoryError(
                f"not even {self.smallest} pictures of {self.network.settings.size} pixels fit "
                f"into the memory of {self.device}: a smaller model.size or width, or another "
                "device"
            )
        if self.on_gpu:
            torch.cuda.empty_cache()
        self.adjustments = [
            f"a batch of {batch} does not fit into the memory of {self.device}: gradients are "
            f"added up over {self.parts} parts, each with its own batch statistics"
        ]

    def _in_parts(self, inputs: Tensor, targets: Targets) -> float:
        for parameter in self.parameters:
            parameter.grad = None
        known = [(~labels.isnan()).sum() for labels, _ in targets]
        total = 0.0
        for number, rows in enumerate(torch.arange(len(inputs)).tensor_split(self.parts)):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            with self.precision():
                logits = self.network.run(self.blocks, inputs[part])
                losses = [
                    share * masked_loss(logits, labels[part], of)
                    for (labels, share), of in zip(targets, known, strict=True)
                ]
            loss = torch.stack(losses).sum()
            if self.proximal and number == 0:
                loss = loss + self.proximal / 2 * self._squared_distance()
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total

    def _squared_distance(self) -> Tensor:
        """‖w - w₀‖² of the trained weights from those received (FedProx)."""
        pairs = zip(self.parameters, self.received, strict=True)
        return torch.stack([(now - then).square().sum() for now, then in pairs]).sum()

    def apply(self, optimizer: torch.optim.Optimizer) -> None:
        """One step along the gradients."""
        self.scaler.step(optimizer)
        self.scaler.update()
