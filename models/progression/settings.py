"""The settings of a generator. This module does not import torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedrad.models.settings import Positive, Settings

PredictionTarget = Literal["epsilon", "v", "sample"]
"""The quantity that the network predicts for a noised image: the noise, the velocity (Salimans & Ho
2022, arXiv 2202.00512), or the image."""


class NoiseSettings(Settings):
    """The noise schedule of a generator, in training and in use."""

    steps: int = Field(default=1000, ge=10, le=10_000)
    """Number of noise levels, T."""
    schedule: Literal["scaled_linear", "linear", "cosine"] = "scaled_linear"
    beta_start: float = Field(default=0.0015, gt=0.0, lt=1.0)
    """First value of β in the linear schedules."""
    beta_end: float = Field(default=0.0205, gt=0.0, lt=1.0)
    """Last value of β in the linear schedules."""


class GeneratorSettings(Settings):
    """`[generator]` of an experiment with `task = "progression"`: a small class-conditional
    diffusion network on pixels, and its training. Its pictures are those of `[model]`."""

    channels: tuple[Annotated[int, Field(ge=8, le=1024)], ...] = Field(
        default=(32, 64, 96), min_length=1, max_length=6
    )
    """Number of channels at each level; every level but the first halves the side."""
    attention: tuple[bool, ...] = (False, False, True)
    """Whether each level has self-attention; its memory grows with the fourth power of the side."""
    patch: Literal[1, 2, 4] = 1
    """Side of the squares of pixels that the network sees as channels of one pixel: 2 costs a
    quarter and is coarser."""
    res_blocks: int = Field(default=1, ge=1, le=4)
    """Residual blocks at each level."""
    groups: int = Field(default=8, ge=1)
    """Groups of the group normalisation; must divide the channels of every level."""
    prediction: PredictionTarget = "v"
    noise: NoiseSettings = NoiseSettings()
    unconditional: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Probability that the outcomes of a training image are hidden; guidance needs such images (Ho
    & Salimans 2022, arXiv 2207.12598)."""
    local_epochs: int = Field(default=1, ge=1, le=1000)
    batch_size: int = Field(default=16, ge=1, le=4096)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    """Peak of one cycle over all rounds with adamw; constant with sgd."""
    samples: int = Field(default=16, ge=2, le=1024)
    """Images that a site draws after each round to measure whether the generator memorises."""

    @model_validator(mode="after")
    def _levels_agree(self) -> "GeneratorSettings":
        if len(self.attention) != len(self.channels):
            raise ValueError(
                f"attention has values for {len(self.attention)} levels, channels for "
                f"{len(self.channels)}: one value for each level"
            )
        if odd := [c for c in self.channels if c % self.groups]:
            raise ValueError(f"groups = {self.groups} does not divide channels {odd}")
        return self

    @property
    def factor(self) -> int:
        """The side of the image must be a multiple of this."""
        return int(self.patch * 2 ** (len(self.channels) - 1))
