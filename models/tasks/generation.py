"""The task of training a generator, which makes radiographs of given outcomes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
class Generation(Task):
    """A diffusion network that makes radiographs of given outcomes and edits images to them."""

    name = "progression"
    product = "generator"
    monitored = MonitoredFigure("loss", "loss")
    tests_patients = False
    weights_hold_images = True
    test_patients_are = "held back"
    sent_each_round = (
        "the weights of the generator, how many patients and images trained them, their mean loss, "
        "seconds, and the loss of the received generator on the validation patients"
    )
    instead_of_figures = (
        "This experiment trained a generator of images, for simulated progressions at the sites. "
        "It is scored on no patient, so there are no figures of a classifier; the denoising loss "
        "on validation patients, by round, says whether it learns. Whether it gives back training "
        "images, each site measured for itself."
    )

    def describe(self, model: ModelSettings) -> str:
        """As `Task.describe`."""
        return (
            "a generator: a network that makes chest radiographs with and without these, and can "
            "edit one towards them"
        )

    def check(self, settings: TaskSettings) -> None:
        """As `Task.check`."""
        model, generator = settings.model, settings.generator
        if settings.recipe != RecipeSettings() or model.base_outputs:
            raise ValueError(
                'task = "progression" trains a generator by [generator]: leave out [recipe] and '
                "model.base_outputs"
            )
        if model.weights != "random" and not model.weights.endswith(".safetensors"):
            raise ValueError(
                f'model.weights = "{model.weights}": a generator starts from "random" or from '
                "an earlier generator's .safetensors file"
            )
        if model.size % generator.factor:
            raise ValueError(
                f"model.size = {model.size}: allowed are multiples of {generator.factor}, for "
                "generator.patch and the levels of generator.channels halve it"
            )

    def schedule(self, recipe: RecipeSettings, rounds: int) -> Schedule:
        """The whole network in every round."""
        return Schedule(RecipeSettings(preset="full"), rounds)

    def load_start(self, settings: TaskSettings) -> "StartingNetwork":
        """A random generator, or an earlier one's file."""
        from fedrad.models.progression.network import start_generator

        return start_generator(
            settings.generator, settings.model, settings.outcomes, seed=settings.seed
        )

    def train_round(
        self, network: "nn.Module", examples: "Examples", round_: TrainingRound
    ) -> "TrainingFigures":
        """As `Task.train_round`. No block is frozen; moments start afresh in each round."""
        from fedrad.models.progression.network import Denoiser
        from fedrad.models.progression.training import train_generator

        assert isinstance(network, Denoiser)
        return train_generator(
            network,
            examples,
            round_.number,
            round_.schedule.rounds,
            seed=round_.seed,
            device=round_.device,
            progress=round_.progress,
        )

    def evaluate(
        self, network: "nn.Module", examples: "Examples", *, device: "torch.device"
    ) -> "NDArray[np.float64]":
        """Denoising error of each example, repeated for each outcome: (N, K)."""
        import numpy as np

        from fedrad.models.progression.network import Denoiser
        from fedrad.models.progression.training import denoising_losses

        assert isinstance(network, Denoiser)
        losses = denoising_losses(network, examples, device=device)
        return np.broadcast_to(losses[:, None], examples.labels.shape)

    def memorisation(
        self,
        network: "nn.Module",
        training: "Examples",
        held_out: "Examples",
        *,
        seed: int,
        device: "torch.device",
    ) -> str:
        """As `Task.memorisation`; "" if no image is held out.

        Images are generated for the outcomes of training patients, and compared with training
        images and with held-out images.
        """
        import numpy as np

        from fedrad.models.progression.memorisation import memorisation, sample_images
        from fedrad.models.progression.network import Denoiser

        assert isinstance(network, Denoiser)
        rows = np.random.default_rng(seed).integers(len(training), size=network.settings.samples)
        drawn = sample_images(
            network, len(rows), seed=seed, device=device, condition=training.labels[rows]
        )
        result = memorisation(drawn, training.images, held_out.images)
        return "" if result is None else str(result)
