"""What a task must say and do, so that everything else can train it without knowing which it is.

An experiment's settings name a task, and commands that read settings answer at once: so tasks
import neither numpy nor torch; their methods do.
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
    """What a task reads of an experiment."""

    outcomes: list[str]
    seed: int
    model: ModelSettings
    recipe: RecipeSettings
    generator: GeneratorSettings


@dataclass(frozen=True)
class MonitoredFigure:
    """The figure on validation patients that is followed from round to round.

    `name` is for people; `limits` are the ends of a plot, and `chance` is what guessing gives, None
    where there is no such value.
    """

    key: Literal["auroc", "loss"]
    name: str
    limits: tuple[float, float] | None = None
    chance: float | None = None


@dataclass(frozen=True)
class TrainingRound:
    """One round of training at one site.

    `number`: from 0, of the schedule's. `moments`: the optimizer's state after the site's round
    before, empty at first. `store`: where activations of frozen blocks are kept. `progress` is
    called with (step, steps).
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
    """What is trained, in a word."""
    monitored: ClassVar[MonitoredFigure]
    tests_patients: ClassVar[bool]
    """Whether models are scored on patients after the last round: only then are there local-only
    models, thresholds and test figures."""
    weights_hold_images: ClassVar[bool]
    """Whether training images can be got back from the weights: then a site's policy decides
    whether they may leave, and the site measures memorisation before they do."""
    test_patients_are: ClassVar[str]
    """What becomes of the patients who do not train, for the person who approves."""
    sent_each_round: ClassVar[str]
    """What leaves a site in every round, for the person who approves."""
    instead_of_figures: ClassVar[str] = ""
    """What the report says where nothing is tested on patients."""

    @abstractmethod
    def describe(self, model: ModelSettings) -> str:
        """What is trained, for the person who approves; the outcomes follow after a colon."""

    @abstractmethod
    def check(self, settings: TaskSettings) -> None:
        """Raise ValueError where settings belong to another task, or do not go together."""

    @abstractmethod
    def schedule(self, recipe: RecipeSettings, rounds: int) -> Schedule:
        """What is trained in which round."""

    @abstractmethod
    def load_start(self, settings: TaskSettings) -> "StartingNetwork":
        """The network that training starts from. Raises WeightsError."""

    @abstractmethod
    def train_round(
        self, network: "nn.Module", examples: "Examples", round_: TrainingRound
    ) -> "TrainingFigures":
        """Train a network, as `load_start` makes it, in place on a site's training patients.

        Raises
        ------
        ValueError
            No example has a known label.
        TooLittleMemoryError
            Memory does not suffice even for the smallest step.
        """

    @abstractmethod
    def evaluate(
        self, network: "nn.Module", examples: "Examples", *, device: "torch.device"
    ) -> "NDArray[np.float64]":
        """What monitoring rests on, (N, K) for N examples and K outcomes: logits of a classifier,
        of a generator the denoising error, the same for all outcomes."""

    def memorisation(
        self,
        network: "nn.Module",
        training: "Examples",
        held_out: "Examples",
        *,
        seed: int,
        device: "torch.device",
    ) -> str:
        """How near to training images the network's own images are, in a sentence for the site's
        log; "" where this cannot be measured."""
        return ""
