"""AdamW for the blocks of a stage, and the gradients of a batch within the device's memory."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import ResNet
from .schedule import Schedule, trainable_blocks
from .settings import Block, RecipeSettings

Targets = list[tuple[Tensor, float]]
"""Pairs of labels (N, K) and their share in the loss: one pair, or two with CutMix."""


class TooLittleMemoryError(RuntimeError):
    """The device cannot hold even the smallest part of a batch that can be trained on."""


def adamw(
    network: ResNet, schedule: Schedule, round_: int, moments: Mapping[str, Tensor]
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with one group per trainable block.

    Parameters
    ----------
    network
        The network, whose trainable blocks the optimizer gets.
    schedule
        The recipe over all rounds; probe and main part differ in weight decay.
    round_
        Number of the round, from 0.
    moments
        State after an earlier round, as `moments_of` returns it. A block without moments, because
        it has just thawed, starts afresh.

    Returns
    -------
    torch.optim.AdamW
        Each parameter group has its `block`; learning rates are set at every step.
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
        earlier = {k.removeprefix(prefix): v for k, v in moments.items() if k.startswith(prefix)}
        if parameter.requires_grad and earlier:
            optimizer.state[parameter] = {
                key: value.clone() if key == "step" else torch.empty_like(parameter).copy_(value)
                for key, value in earlier.items()
            }
    return optimizer


def moments_of(
    optimizer: torch.optim.AdamW, network: ResNet, schedule: Schedule, round_: int
) -> dict[str, Tensor]:
    """The state of AdamW after a round.

    Parameters
    ----------
    optimizer
        The optimizer, made by `adamw`.
    network
        The network that it trained.
    schedule
        The recipe over all rounds.
    round_
        Number of the round, from 0.

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
    """Prefix of a parameter's moments: probe and main part have an optimizer each, as published."""
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
        Number of known labels of the whole batch, by which the sum is divided if this is a part
        of a batch; None: that of these labels.

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
    """Gradients of a batch's loss, computed in as many parts as the device's memory needs.

    On a GPU the forward pass is in bfloat16, or in float16 with scaled gradients if the card lacks
    bfloat16. A batch that does not fit into memory is halved until it does, and the gradients are
    added up. The mean over the batch is the same, but each part has its own batch statistics.

    Parameters
    ----------
    network
        The network on its device, with the blocks of the stage in training mode.
    blocks
        Trainable blocks, from the image side to the head.
    recipe
        Its `proximal` is the strength of the FedProx term (Li et al. 2020, arXiv 1812.06127), which
        pulls towards the weights that the network has now.
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
        self.smallest = 2 if moving else 1  # a single picture has no batch statistics
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
            Inputs of the first trainable block, (N, …).
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
                pass  # memory of the failed pass is released only after this block
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
        """Take one step of the optimizer with these gradients."""
        self.scaler.step(optimizer)
        self.scaler.update()
