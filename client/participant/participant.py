"""One site in one experiment: its replies to the requests of the coordinator."""

import copy
import importlib.metadata
import time
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from fedrad.client.log import report_steps
from fedrad.client.problems import SiteProblem
from fedrad.exchange.encoding import Packed
from fedrad.exchange.lineage import Ancestor, read_lineage, write_lineage
from fedrad.exchange.messages import (
    BaselineReply,
    BaselineRequest,
    Monitoring,
    Readiness,
    Request,
    RoundReply,
    RoundRequest,
    ScoreRequest,
    ValidationReply,
    ValidationRequest,
)
from fedrad.exchange.update import Manifest, pack, unflatten
from fedrad.models.ensemble import interpolate
from fedrad.models.network import ResNet, local_tensors, stage_tensors, weights_digest
from fedrad.models.optimizer import TooLittleMemoryError
from fedrad.models.settings import Stage
from fedrad.models.tasks import TrainingRound
from fedrad.models.training import TrainingFigures
from fedrad.models.weights import save
from fedrad.stats.exact import with_known_outcome
from fedrad.system.folders import make_folder
from fedrad.system.release import release

from .between_rounds import RoundTensors
from .site_data import SiteData
from .weight_exchange import ReceivedModel, WeightExchange


class Participant:
    """A site that takes part in an experiment, with its data and the task of the experiment.

    If weights of the task can disclose training images, the site refuses to take part and to train
    unless its policy allows such weights to leave.
    """

    def __init__(self, data: SiteData) -> None:
        self.data = data
        self.task = data.experiment.task
        self.between_rounds = RoundTensors(data.folder / "kept")

    @cached_property
    def weight_exchange(self) -> WeightExchange:
        """Decoder and encoder of the weights that the site receives and sends."""
        data = self.data
        return WeightExchange(data.experiment, data.start, data.folder / "exchange")

    @property
    def local_file(self) -> Path:
        """File of the site's local-only model."""
        return self.data.folder / "local.safetensors"

    def received_model(self, request: Request, packed: Packed | None) -> ReceivedModel | None:
        """Check and decode the model of a request; None if the request has none.

        No patient's data is read. Raises SiteProblem: "request" and "reference" as in
        `WeightExchange.receive`, "implausible" as in `WeightExchange.check_step`.
        """
        manifest = getattr(request, "manifest", None)
        if manifest is None:
            return None
        schedule, exchange = self.data.schedule, self.weight_exchange
        number, stage = schedule.rounds, schedule.last_stage
        if isinstance(request, RoundRequest):
            number, stage = request.round, schedule.stage(request.round)
        received = exchange.receive(manifest, packed, stage, number)
        exchange.check_step(received, number, from_base=isinstance(request, ScoreRequest))
        return received

    def ready(self) -> Readiness:
        """Check the cohort, the device and the base weights, and report counts and versions."""
        self._check_policy()
        data, outcomes = self.data, self.data.experiment.outcomes
        torch.set_num_threads(data.threads)
        return Readiness(
            site=data.site.name,
            fedrad=importlib.metadata.version("fedrad"),
            flwr=importlib.metadata.version("flwr"),
            torch=torch.__version__,
            device="cuda" if data.device.type == "cuda" else "cpu",
            threads=data.threads,
            base_sha256=data.start.digest,
            release=release(),
            trains=data.does_not_train_because is None,
            does_not_train_because=data.does_not_train_because,
            tests_other_models=data.site.settings.policy.test_other_models,
            units={
                part: {
                    outcome: data.disclosure.counts(
                        with_known_outcome(examples.labels[:, k], examples.patients)[1]
                    )
                    for k, outcome in enumerate(outcomes)
                }
                for part, examples in data.parts.items()
            },
            set_aside=sum(
                map(len, (data.cohort.set_aside, data.cohort.repeated, data.cohort.unordered))
            ),
            left_out=None if data.disclosure.epsilon else len(data.left_out),
        )

    def round(
        self, request: RoundRequest, packed: Packed | None
    ) -> tuple[RoundReply, Packed | None]:
        """Evaluate the global model on the validation patients, train it, return the update."""
        self._check_policy()
        started = time.perf_counter()
        data = self.data
        torch.set_num_threads(data.threads)
        stage = data.schedule.stage(request.round)
        network = self.receive(request.manifest, packed, stage, request.round)
        monitoring = self._monitoring(network)
        if data.does_not_train_because:
            self.weight_exchange.skip(request.manifest)
            reply = RoundReply(
                manifest=None,
                patients=0,
                images=0,
                loss=None,
                steps=0,
                monitoring=monitoring,
                seconds=time.perf_counter() - started,
            )
            return reply, None
        figures = self._train(network, request.round, self.between_rounds.before(request.round))
        own = local_tensors(network, stage, data.experiment.recipe)
        state = network.state_dict()
        stay = figures.moments | {name: state[name].cpu() for name in own}
        self.between_rounds.save(request.round, stay)
        manifest, update = self.weight_exchange.send(state, stage, request.round)
        reply = RoundReply(
            manifest=manifest,
            patients=len(set(data.keys("train"))),
            images=len(data.parts["train"]),
            loss=data.disclosure.training_loss(figures.loss),
            steps=figures.steps,
            monitoring=monitoring,
            seconds=time.perf_counter() - started,
        )
        return reply, update

    def baseline(self, request: BaselineRequest) -> tuple[BaselineReply, Packed | None]:
        """Train the local-only model from the base weights, like a federation of one site. It is
        sent only if the coordinator requests it and the site's policy shares it."""
        self._check_tests()
        started = time.perf_counter()
        data, experiment, schedule = self.data, self.data.experiment, self.data.schedule
        torch.set_num_threads(data.threads)
        if data.does_not_train_because:
            return BaselineReply(missing=data.does_not_train_because), None
        network = copy.deepcopy(data.base.network)
        loss, moments = 0.0, dict[str, Tensor]()
        for round_ in range(schedule.rounds):
            figures = self._train(network, round_, moments)
            loss, moments = figures.loss, figures.moments
            data.log.info(
                "%s: alone, round %d of %d, loss %.3f",
                data.site.name,
                round_ + 1,
                schedule.rounds,
                loss,
            )
        make_folder(data.folder)
        own = Ancestor(experiment=experiment.identity, sites=(data.site.name,))
        save(
            self.local_file,
            network.cpu(),
            outputs=list(experiment.outcomes),
            description=f"local-only model of {data.site.name}, {experiment.name}",
            **write_lineage((*read_lineage(data.base.metadata), own)),
        )
        manifest, packed = None, None
        if request.travel and data.site.settings.policy.share_local_model:
            manifest, packed = pack(
                {k: v.cpu().numpy() for k, v in network.state_dict().items()},
                stage_tensors(network, schedule.last_stage, experiment.recipe),
                round_=schedule.rounds,
                stage=schedule.last_stage,
                base_sha256=data.base.digest,
            )
        seconds = time.perf_counter() - started
        shown = data.disclosure.training_loss(loss)
        return BaselineReply(loss=shown, seconds=seconds, manifest=manifest), packed

    def validation(self, request: ValidationRequest, packed: Packed | None) -> ValidationReply:
        """Evaluate mixtures of the global model and the base on the validation patients."""
        self._check_tests()
        torch.set_num_threads(self.data.threads)
        tuned, base = self.receive_global_model(request.manifest, packed), self.data.base.network
        mixtures = (interpolate(base, tuned, alpha) for alpha in request.alphas)
        return ValidationReply(figures=[self._monitoring(network) for network in mixtures])

    # Steps of the replies

    def _check_policy(self) -> None:
        policy = self.data.site.settings.policy
        if self.task.weights_hold_images and not policy.share_generator:
            raise SiteProblem(
                "generator",
                "the experiment trains a generator, whose weights can hold traces of "
                "images, and site.toml does not let such weights leave: share_generator = true "
                "under [policy], or stay out",
            )

    def _check_tests(self) -> None:
        if not self.task.tests_patients:
            raise SiteProblem(
                "request",
                f"an experiment that trains a {self.task.product} has neither local-only models "
                "nor test figures",
            )

    def _train(
        self, network: nn.Module, round_: int, moments: Mapping[str, Tensor]
    ) -> TrainingFigures:
        """Train a network in place for one round of the schedule; rounds count from 0. The training
        patients are recorded first, so that no later experiment uses them as new test patients."""
        data = self.data
        data.trained_patients.record(data.experiment, data.keys("train"))
        training = TrainingRound(
            round_,
            data.schedule,
            seed=self.seed_of(round_),
            device=data.device,
            moments=moments,
            store=data.activations,
            progress=report_steps(data.log, data.site.name),
        )
        try:
            figures = self.task.train_round(network, data.training, training)
            if self.task.weights_hold_images:
                self._report_memorisation(network, training)
        except (TooLittleMemoryError, torch.OutOfMemoryError) as error:
            raise SiteProblem("device", f"too little memory: {error}") from error
        for adjustment in figures.adjustments:
            data.log.warning("%s, round %d: %s", data.site.name, round_ + 1, adjustment)
        return figures

    def _report_memorisation(self, network: nn.Module, training: TrainingRound) -> None:
        """Write to the site's log how similar the generator's images are to its training images."""
        data = self.data
        result = self.task.memorisation(
            network,
            data.parts["train"],
            data.parts["validation"],
            seed=training.seed,
            device=training.device,
        )
        data.log.info(
            "%s, round %d, before it is sent: %s",
            data.site.name,
            training.number + 1,
            result or "no validation patients to say whether the generator memorises",
        )

    def _monitoring(self, network: nn.Module) -> dict[str, Monitoring]:
        """Figures of a network on the validation patients that may leave; outcome -> figures.

        Raises SiteProblem("implausible") as `SiteData.check_scores`.
        """
        disclosure, validation = self.data.disclosure, self.data.parts["validation"]
        released = {"auroc": disclosure.monitoring, "loss": disclosure.denoising}
        values = self.task.evaluate(network, validation, device=self.data.device)
        weights, figures = weights_digest(network), {}
        for k, outcome in enumerate(self.data.experiment.outcomes):
            known, units = with_known_outcome(validation.labels[:, k], validation.patients)
            if self.task.tests_patients:
                self.data.check_scores(values[known, k], units, "validation", outcome)
            figures[outcome] = released[self.task.monitored.key](
                values[known, k], units, weights, outcome
            )
        return figures

    def seed_of(self, round_: int) -> int:
        """Seed of this site's random draws in a round."""
        text = f"{self.data.experiment.seed}:{self.data.site.name}:{round_}"
        return int.from_bytes(sha256(text.encode()).digest()[:4])

    def receive_global_model(self, manifest: Manifest, packed: Packed | None) -> ResNet:
        """The classifier that the coordinator sends after the last round; as `receive`."""
        schedule = self.data.schedule
        network = self.receive(manifest, packed, schedule.last_stage, schedule.rounds)
        assert isinstance(network, ResNet)
        return network

    def receive(
        self, manifest: Manifest, packed: Packed | None, stage: Stage, round_: int
    ) -> nn.Module:
        """Build the global model: the starting network with the received tensors, and with the
        site's own normalisation layers if the recipe keeps these local. A site that has never
        trained uses those of the starting network.

        Parameters
        ----------
        manifest, packed
            The received tensors, those that a stage trains.
        stage, round_
            Expected stage and round; rounds count from 0.

        Raises
        ------
        SiteProblem
            "request" or "reference", as in `WeightExchange.receive`.
        """
        network = copy.deepcopy(self.data.start.network)
        received = self.weight_exchange.receive(manifest, packed, stage, round_)
        tensors = unflatten(manifest, received.values)
        network.load_state_dict({k: torch.tensor(v) for k, v in tensors.items()}, strict=False)
        if self.data.experiment.recipe.batchnorm == "local":
            stored = self.between_rounds.before(round_)
            local = network.state_dict().keys() & stored.keys()
            network.load_state_dict({name: stored[name] for name in local}, strict=False)
        return network
