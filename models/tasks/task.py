"""The interface of a task: all that training, monitoring and reports need to know about it.

The settings of an experiment name a task, and commands that read settings must answer at once. So
the modules of tasks import neither numpy nor torch; only their methods do.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from fedrad.models.progression.settings import GeneratorSettings
from fedrad.models.schedule import Schedule
from fedrad.models.settings import ModelSettings, RecipeSettings

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from fedrad.models.activations import ActivationStore
    from fedrad.models.examples import Examples
    from fedrad.models.training import TrainingFigures
    from fedrad.models.weights import StartingNetwork

TaskName = Literal["classification", "progression"]


class TaskSettings(Protocol):
    """The settings of an experiment that a task reads."""

    outcomes: list[str]
    seed: int
    model: ModelSettings
    recipe: RecipeSettings
    generator: GeneratorSettings


@dataclass(frozen=True)
class MonitoredFigure:
    """The figure on validation patients that is monitored in every round.

    Attributes
    ----------
    key
        Name of the figure in records.
    name
        Name for people.
    limits
        Smallest and largest value of a plot's axis; None: those of the data.
    chance
        Value for guessing; None if there is no such value.
    """

    key: Literal["auroc", "loss"]
    name: str
    limits: tuple[float, float] | None = None
    chance: float | None = None


@dataclass(frozen=True)
class TrainingRound:
    """One round of training at one site.

    Attributes
    ----------
    number
        Number of the round in the schedule, from 0.
    schedule
        The recipe over all rounds.
    seed
        Seed of all random draws of the round.
    device
        Where to train.
    moments
        State of the optimizer after the site's last round; empty at first.
    store
        Store for the outputs of frozen blocks; None: no store.
    progress
        Called with (step, steps) after each step.
    """

    number: int
    schedule: Schedule
    seed: int
    device: "torch.device"
    moments: "Mapping[str, Tensor]"
    store: "ActivationStore | None" = None
    progress: Callable[[int, int], None] | None = None


class Task(ABC):
    """One kind of network that sites train together."""

    name: ClassVar[TaskName]
    product: ClassVar[str]
    """One word for the trained network."""
    monitored: ClassVar[MonitoredFigure]
    tests_patients: ClassVar[bool]
    """Whether models are scored on patients after the last round. Only then are there local-only
    models, thresholds and test figures."""
    weights_hold_images: ClassVar[bool]
    """Whether training images could be recovered from the weights. If so, the site's policy decides
    whether the weights may leave, and the site measures memorisation before."""
    test_patients_are: ClassVar[str]
    """Use of the patients that do not train, in words, for the person who approves."""
    sent_each_round: ClassVar[str]
    """What leaves a site in every round, in words, for the person who approves."""
    instead_of_figures: ClassVar[str] = ""
    """Text of the report if no model is tested on patients."""

    @abstractmethod
    def describe(self, model: ModelSettings) -> str:
        """The network in words, for the person who approves; the outcomes follow after a colon."""

    @abstractmethod
    def check(self, settings: TaskSettings) -> None:
        """Raise ValueError if settings belong to another task or contradict each other."""

    @abstractmethod
    def schedule(self, recipe: RecipeSettings, rounds: int) -> Schedule:
        """The trainable blocks of each round."""

    @abstractmethod
    def load_start(self, settings: TaskSettings) -> "StartingNetwork":
        """The network that training starts from. Raises WeightsError."""

    @abstractmethod
    def train_round(
        self, network: "nn.Module", examples: "Examples", round_: TrainingRound
    ) -> "TrainingFigures":
        """Train a network from `load_start` in place, on a site's training patients.

        Raises
        ------
        ValueError
            If no example has a known label.
        TooLittleMemoryError
            If memory is too small even for the smallest step.
        """

    @abstractmethod
    def evaluate(
        self, network: "nn.Module", examples: "Examples", *, device: "torch.device"
    ) -> "NDArray[np.float64]":
        """Values for monitoring, (N, K) for N examples and K outcomes: the logits of a classifier,
        or the denoising error of a generator, which is the same for all outcomes."""

    def memorisation(
        self,
        network: "nn.Module",
        training: "Examples",
        held_out: "Examples",
        *,
        seed: int,
        device: "torch.device",
    ) -> str:
        """Measure how similar images from the network are to training images.

        Returns
        -------
        str
            A sentence for the site's log; "" if it cannot be measured.
        """
        return ""
