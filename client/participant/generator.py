"""A site that trains a generator: the same rounds, but what it trains and monitors is another."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.encoding import Packed
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.messages import (
    BaselineReply,
    BaselineRequest,
    Monitoring,
    Readiness,
    RoundReply,
    RoundRequest,
    ValidationReply,
    ValidationRequest,
)
from fedrad.models.optimizer import TooLittleMemoryError
from fedrad.models.progression.memorisation import Memorisation, memorisation, sample_images
from fedrad.models.progression.network import Denoiser, start_generator
from fedrad.models.progression.training import denoising_losses, train_generator
from fedrad.models.training import TrainingFigures
from fedrad.models.weight_files import WeightsError
from fedrad.models.weights import Start
from fedrad.stats.exact import known

from .participant import Participant

NO_TESTS = "an experiment that trains a generator has neither local-only models nor test figures"


class GeneratingParticipant(Participant):
    """A site in an experiment with task = "progression".

    It takes part only where its policy lets weights of a generator leave, and measures before each
    update leaves whether the generator gives back its training images.
    """

    @cached_property
    def start(self) -> Start:
        """The generator that training starts from. SiteProblem("weights") where it is not here."""
        experiment = self.experiment
        try:
            return start_generator(
                experiment.generator, experiment.model, experiment.outcomes, seed=experiment.seed
            )
        except WeightsError as error:
            raise SiteProblem("weights", str(error)) from error

    def ready(self) -> Readiness:
        """As a classifier's. Raises SiteProblem("generator") where the policy forbids it."""
        self._permitted()
        return super().ready()

    def round(
        self, request: RoundRequest, packed: Packed | None
    ) -> tuple[RoundReply, Packed | None]:
        """As a classifier's; the policy is asked at every round."""
        self._permitted()
        return super().round(request, packed)

    def baseline(self, request: BaselineRequest) -> tuple[BaselineReply, Packed | None]:
        """There is none."""
        raise SiteProblem("request", NO_TESTS)

    def validation(self, request: ValidationRequest, packed: Packed | None) -> ValidationReply:
        """There is none."""
        raise SiteProblem("request", NO_TESTS)

    def _permitted(self) -> None:
        if not self.site.settings.policy.share_generator:
            raise SiteProblem(
                "generator",
                "the experiment trains a generator, whose weights can hold traces of "
                "images, and site.toml does not let such weights leave: share_generator = true "
                "under [policy], or stay out",
            )

    def _train(
        self, network: nn.Module, round_: int, moments: Mapping[str, Tensor]
    ) -> TrainingFigures:
        assert isinstance(network, Denoiser)
        self.trained.record(self.experiment.identity, self.keys("train"))
        try:
            figures = train_generator(
                network,
                self.parts["train"],
                round_,
                self.schedule.rounds,
                seed=self._seed(round_),
                device=self.device,
                progress=self._report_steps(),
            )
            found = self._memorisation(network, round_)
        except (TooLittleMemoryError, torch.OutOfMemoryError) as error:
            raise SiteProblem("device", f"too little memory: {error}") from error
        self.log.info(
            "%s, round %d, before it is sent: %s",
            self.site.name,
            round_ + 1,
            found or "no validation patients to say whether the generator memorises",
        )
        return figures

    def _memorisation(self, network: Denoiser, round_: int) -> Memorisation | None:
        """Samples under the outcomes of training patients, beside training and held-out images."""
        training, seed = self.parts["train"], self._seed(round_)
        rows = np.random.default_rng(seed).integers(len(training), size=network.settings.samples)
        drawn = sample_images(
            network, len(rows), seed=seed, device=self.device, condition=training.labels[rows]
        )
        return memorisation(drawn, training.images, self.parts["validation"].images)

    def _monitoring(self, network: nn.Module) -> dict[str, Monitoring]:
        """Denoising loss of the validation patients in whom an outcome is known."""
        assert isinstance(network, Denoiser)
        validation = self.parts["validation"]
        losses = denoising_losses(network, validation, device=self.device)
        found = {}
        for k, outcome in enumerate(self.experiment.outcomes):
            there, units = known(validation.labels[:, k], validation.patients)
            found[outcome] = self.disclosure.denoising(losses[there], units)
        return found


def participant_of(
    site: Site, experiment: Experiment, *, record_division: bool = True
) -> Participant:
    """A site taking part in an experiment of whichever task; arguments as of `Prepared`."""
    kind = GeneratingParticipant if experiment.task == "progression" else Participant
    return kind(site, experiment, record_division=record_division)
