"""The task of training a classifier, which estimates outcomes from a radiograph."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedrad.models.progression.settings import GeneratorSettings
from fedrad.models.schedule import Schedule
from fedrad.models.settings import ModelSettings, RecipeSettings

from .task import MonitoredFigure, Task, TaskSettings, TrainingRound

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from fedrad.models.examples import Examples
    from fedrad.models.training import TrainingFigures
    from fedrad.models.weights import StartingNetwork


@dataclass(frozen=True)
class Classification(Task):
    """A ResNet that estimates outcomes from a radiograph."""

    name = "classification"
    product = "classifier"
    monitored = MonitoredFigure("auroc", "AUROC", limits=(0.5, 1.0), chance=0.5)
    tests_patients = True
    weights_hold_images = False
    test_patients_are = "tested once, at the end"
    sent_each_round = (
        "the trained weights, how many patients and images trained them, their mean loss, seconds, "
        "and the AUROC of the received model on the validation patients"
    )

    def describe(self, model: ModelSettings) -> str:
        """As `Task.describe`."""
        return f"a network ({model.backbone}) that estimates from a chest radiograph"

    def check(self, settings: TaskSettings) -> None:
        """As `Task.check`."""
        if settings.generator != GeneratorSettings():
            raise ValueError('[generator] is for task = "progression": set it, or leave it out')

    def schedule(self, recipe: RecipeSettings, rounds: int) -> Schedule:
        """The recipe over the rounds."""
        return Schedule(recipe, rounds)

    def load_start(self, settings: TaskSettings) -> "StartingNetwork":
        """Base weights with a fresh head: a `BaseWeights`."""
        from fedrad.models.weights import load_base

        outcomes, dropout = len(settings.outcomes), settings.recipe.dropout
        return load_base(settings.model, outcomes, seed=settings.seed, dropout=dropout)

    def train_round(
        self, network: "nn.Module", examples: "Examples", round_: TrainingRound
    ) -> "TrainingFigures":
        """As `Task.train_round`."""
        from fedrad.models.network import ResNet
        from fedrad.models.training import train_round

        assert isinstance(network, ResNet)
        return train_round(
            network,
            examples,
            round_.schedule,
            round_.number,
            seed=round_.seed,
            device=round_.device,
            moments=round_.moments,
            store=round_.store,
            progress=round_.progress,
        )

    def evaluate(
        self, network: "nn.Module", examples: "Examples", *, device: "torch.device"
    ) -> "NDArray[np.float64]":
        """Logits (N, K)."""
        from fedrad.models.network import ResNet
        from fedrad.models.training import score

        assert isinstance(network, ResNet)
        return score(network, examples.images, device=device)
