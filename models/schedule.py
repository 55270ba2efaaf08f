"""Schedule of training: the trainable blocks and the learning rates of each round.

Source: Goedicke-Fritz et al. 2025, arXiv 2507.12269, and its published experiments. An
epoch of the paper is a round here: `local_epochs` passes over a site's data.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import cos, floor, pi
from typing import Literal

from .settings import BLOCKS, Block, RecipeSettings, Stage

START_DIVISOR = 25.0
"""One-cycle: initial rate = maximum / 25 (PyTorch's `div_factor`)."""
FINAL_DIVISOR = 1e4
"""One-cycle: final rate = initial rate / 10⁴ (PyTorch's `final_div_factor`)."""

_TRAINABLE: dict[Stage, tuple[Block, ...]] = {
    "probe": ("head",),
    "layer4": ("layer4", "head"),
    "layer3": ("layer3", "layer4", "head"),
    "layer2": ("layer2", "layer3", "layer4", "head"),
    "all": BLOCKS,
}

Thawing = Literal["layer4", "layer3", "layer2"]
_THAWING: tuple[Thawing, ...] = ("layer4", "layer3", "layer2")
PROBE_MOMENTUM = 0.9
"""AdamW's β₁ in the linear probe, where it follows no cycle (PyTorch's default)."""


def trainable_blocks(stage: Stage) -> tuple[Block, ...]:
    """Blocks that a stage trains, from the image side to the head."""
    return _TRAINABLE[stage]


def frozen_blocks(stage: Stage) -> tuple[Block, ...]:
    """Blocks that a stage does not train, from the image side; constant for a given input."""
    return BLOCKS[: -len(_TRAINABLE[stage])]


@dataclass(frozen=True)
class Schedule:
    """The recipe over a number of rounds.

    Raises
    ------
    ValueError
        If there are too few rounds for every stage of the recipe.
    """

    recipe: RecipeSettings
    rounds: int

    def __post_init__(self) -> None:
        """Raise ValueError if a part of the recipe would have no round."""
        recipe = self.recipe
        if self.rounds < 1:
            raise ValueError(f"rounds = {self.rounds}: at least 1")
        if recipe.probe > 0 and self.probe_rounds == 0:
            raise ValueError(
                f"rounds = {self.rounds} leave no round for the linear probe "
                f"(probe = {recipe.probe:.3g}): more rounds, or probe = 0"
            )
        if recipe.probe < 1 and self.main_rounds == 0:
            raise ValueError(
                f"rounds = {self.rounds} leave no round for the main part: more rounds"
            )
        if recipe.freezing == "progressive" and self.main_rounds:
            self._check_every_stage_has_a_round()

    def _check_every_stage_has_a_round(self) -> None:
        """Raise ValueError unless every block thaws, and blocks with different shares apart."""
        thaw, rounds = self.recipe.thaw, self.main_rounds
        if thaw.layer4 == 1:
            raise ValueError(
                'freezing = "progressive", but no block ever thaws (thaw.layer4 = 1): a smaller '
                'share, or preset = "probe"'
            )
        for block in _THAWING:
            if getattr(thaw, block) < 1 and self._thaws_at(block) >= rounds:
                raise ValueError(f"{block} would never thaw in {rounds} main rounds: more rounds")
        for above, block in pairwise(_THAWING):
            meant_apart = getattr(thaw, above) < getattr(thaw, block)
            if meant_apart and self._thaws_at(above) == self._thaws_at(block):
                raise ValueError(
                    f"{above} and {block} would thaw in the same of {rounds} main rounds, so a "
                    "stage would be left out: more rounds, or the same share in thaw"
                )

    def _thaws_at(self, block: Thawing) -> int:
        """First main round that trains a block: ⌊share·E⌋, E = `main_rounds`."""
        share: float = getattr(self.recipe.thaw, block)
        return floor(share * self.main_rounds + 1e-9)

    @property
    def probe_rounds(self) -> int:
        """Rounds of the linear probe."""
        return round(self.recipe.probe * self.rounds)

    @property
    def main_rounds(self) -> int:
        """Rounds of the main part, E in the paper's ⌊0.1·E⌋."""
        return self.rounds - self.probe_rounds

    def stage(self, round_: int) -> Stage:
        """Stage of a round, counted from 0. It depends on the round alone, so that all sites train
        and send the same tensors."""
        if not 0 <= round_ < self.rounds:
            raise ValueError(f"round {round_} is not in 0 … {self.rounds - 1}")
        main = round_ - self.probe_rounds
        if main < 0:
            return "probe"
        if self.recipe.freezing == "none":
            return "all"
        stage: Stage = "probe"
        for block in _THAWING:
            if main >= self._thaws_at(block):
                stage = block
        return stage

    @property
    def last_stage(self) -> Stage:
        """The stage with the most trainable blocks."""
        return self.stage(self.rounds - 1)

    def in_probe(self, round_: int) -> bool:
        """Whether a round is part of the linear probe (constant learning rate, no CutMix)."""
        return round_ < self.probe_rounds

    def learning_rate(self, block: Block, position: float) -> float:
        """Learning rate of a block.

        In the main part all blocks follow one cycle, which begins with the main part. A block that
        thaws later enters it at its current point.

        Parameters
        ----------
        block
            A trainable block.
        position
            Round plus the fraction of its steps that are done, in [0, rounds].

        Returns
        -------
        float
            The learning rate.
        """
        recipe = self.recipe
        main = position - self.probe_rounds
        if main < 0 or not self.main_rounds:
            return recipe.probe_learning_rate
        rates = recipe.learning_rates
        if block == "head":
            peak = rates.head
        elif recipe.freezing == "none":
            peak = rates.backbone
        else:
            peak = getattr(rates, block)
        return one_cycle(main / self.main_rounds, peak, recipe.warmup)

    def momentum(self, position: float) -> float:
        """AdamW's β₁ at a position: low when the learning rate is high, as in PyTorch's cycle."""
        main = position - self.probe_rounds
        if main < 0 or not self.main_rounds:
            return PROBE_MOMENTUM
        low, high = self.recipe.momentum
        progress, warmup = main / self.main_rounds, self.recipe.warmup
        if progress < warmup:
            return _cosine(high, low, progress / warmup)
        return _cosine(low, high, min(1.0, (progress - warmup) / (1.0 - warmup)))


def one_cycle(progress: float, peak: float, warmup: float) -> float:
    """One-cycle learning rate (Smith & Topin 2018, arXiv 1708.07120) with cosine annealing.

    Rises from peak/25 to the peak, then falls to peak/25/10⁴.

    Parameters
    ----------
    progress
        Position in the cycle, in [0, 1].
    peak
        Highest learning rate.
    warmup
        Share of the cycle in which it rises, in (0, 1).

    Returns
    -------
    float
        The learning rate.
    """
    start, end = peak / START_DIVISOR, peak / START_DIVISOR / FINAL_DIVISOR
    if progress < warmup:
        return _cosine(start, peak, progress / warmup)
    return _cosine(peak, end, min(1.0, (progress - warmup) / (1.0 - warmup)))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + cos(pi * share))
