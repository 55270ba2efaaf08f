"""What a person may set about a generator. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedrad.models.settings import Positive, Settings

PredictionTarget = Literal["epsilon", "v", "sample"]
"""What the network says of a noised image: its noise, its velocity (Salimans & Ho 2022,
arXiv 2202.00512), or the image."""


class NoiseSettings(Settings):
    """How images are noised while a generator is trained, and so while it is used."""

    steps: int = Field(default=1000, ge=10, le=10_000)
    """T: levels of noise."""
    schedule: Literal["scaled_linear", "linear", "cosine"] = "scaled_linear"
    beta_start: float = Field(default=0.0015, gt=0.0, lt=1.0)
    beta_end: float = Field(default=0.0205, gt=0.0, lt=1.0)
    """Of the linear schedules."""


class GeneratorSettings(Settings):
    """`[generator]` of an experiment with `task = "progression"`: a small class-conditional
    diffusion network on pixels, and how it is trained. Its image is that of `[model]`."""

    channels: tuple[Annotated[int, Field(ge=8, le=1024)], ...] = Field(
        default=(32, 64, 96), min_length=1, max_length=6
    )
    """Of each level; each level but the first halves the side."""
    attention: tuple[bool, ...] = (False, False, True)
    """Levels with self-attention; its memory grows with the fourth power of the side."""
    patch: Literal[1, 2, 4] = 1
    """Side of the squares of pixels that the network takes as channels of one: 2 costs a quarter
    and is coarser."""
    res_blocks: int = Field(default=1, ge=1, le=4)
    groups: int = Field(default=8, ge=1)
    """Of the group normalisation; must divide every level's channels."""
    prediction: PredictionTarget = "v"
    noise: NoiseSettings = NoiseSettings()
    unconditional: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Probability that a training image's outcomes are hidden, which is what guidance needs (Ho &
    Salimans 2022, arXiv 2207.12598)."""
    local_epochs: int = Field(default=1, ge=1, le=1000)
    batch_size: int = Field(default=16, ge=1, le=4096)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    """Peak of one cycle over all rounds (adamw); constant with sgd."""
    samples: int = Field(default=16, ge=2, le=1024)
    """Images drawn after each round to measure, at the site, whether the generator memorises."""

    @model_validator(mode="after")
    def _levels_agree(self) -> "GeneratorSettings":
        if len(self.attention) != len(self.channels):
            raise ValueError(
                f"attention speaks of {len(self.attention)} levels, channels of "
                f"{len(self.channels)}: one value for each level"
            )
        if odd := [c for c in self.channels if c % self.groups]:
            raise ValueError(f"groups = {self.groups} does not divide channels {odd}")
        return self

    @property
    def factor(self) -> int:
        """Must divide the side of the image."""
        return int(self.patch * 2 ** (len(self.channels) - 1))
