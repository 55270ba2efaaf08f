"""One site in one experiment: what it answers to each request."""

import copy
import importlib.metadata
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from fedrad.client.problems import SiteProblem
from fedrad.exchange.encoding import Packed
from fedrad.exchange.lineage import Ancestor, read_lineage, write_lineage
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
from fedrad.exchange.update import Manifest, pack
from fedrad.models.ensemble import interpolate
from fedrad.models.network import ResNet, local_tensors, stage_tensors
from fedrad.models.optimizer import TooLittleMemoryError
from fedrad.models.settings import Stage
from fedrad.models.training import TrainingFigures, score, train_round
from fedrad.models.weights import save
from fedrad.stats.exact import known

from .prepared import Prepared


class Participant(Prepared):
    """A site taking part in an experiment."""

    def ready(self) -> Readiness:
        """Counts, device, versions and base weights: all that the first round will need."""
        torch.set_num_threads(self.threads)
        return Readiness(
            site=self.site.name,
            fedrad=importlib.metadata.version("fedrad"),
            flwr=importlib.metadata.version("flwr"),
            torch=torch.__version__,
            device="cuda" if self.device.type == "cuda" else "cpu",
            threads=self.threads,
            base_sha256=self.start.digest,
            trains=self.does_not_train_because is None,
            does_not_train_because=self.does_not_train_because,
            tests_other_models=self.site.settings.policy.test_other_models,
            units={
                part: {
                    outcome: self.disclosure.counts(
                        known(examples.labels[:, k], examples.patients)[1]
                    )
                    for k, outcome in enumerate(self.experiment.outcomes)
                }
                for part, examples in self.parts.items()
            },
            set_aside=len(self.cohort.set_aside) + len(self.cohort.repeated),
        )

    def round(
        self, request: RoundRequest, packed: Packed | None
    ) -> tuple[RoundReply, Packed | None]:
        """Evaluate the global model on the validation patients, train it, return the update."""
        started = time.perf_counter()
        torch.set_num_threads(self.threads)
        stage = self.schedule.stage(request.round)
        network = self._received(request.manifest, packed, stage, request.round)
        monitoring = self._monitoring(network)
        if self.does_not_train_because:
            self.link.skip(request.manifest)
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
        figures = self._train(network, request.round, self.kept.before(request.round))
        own = local_tensors(network, stage, self.experiment.recipe)
        state = network.state_dict()
        self.kept.save(request.round, figures.moments | {name: state[name].cpu() for name in own})
        manifest, update = self.link.send(state, stage, request.round)
        reply = RoundReply(
            manifest=manifest,
            patients=len(set(self.keys("train"))),
            images=len(self.parts["train"]),
            loss=figures.loss,
            steps=figures.steps,
            monitoring=monitoring,
            seconds=time.perf_counter() - started,
        )
        return reply, update

    def baseline(self, request: BaselineRequest) -> tuple[BaselineReply, Packed | None]:
        """Train from the base weights alone: a federation of one. The model stays here, unless it
        is asked for and the site's policy shares it."""
        started = time.perf_counter()
        torch.set_num_threads(self.threads)
        if self.does_not_train_because:
            return BaselineReply(missing=self.does_not_train_because), None
        network = copy.deepcopy(self.base.network)
        loss, moments = 0.0, dict[str, Tensor]()
        for round_ in range(self.schedule.rounds):
            figures = self._train(network, round_, moments)
            loss, moments = figures.loss, figures.moments
            self.log.info(
                "%s: alone, round %d of %d, loss %.3f",
                self.site.name,
                round_ + 1,
                self.schedule.rounds,
                loss,
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        own = Ancestor(experiment=self.experiment.identity, sites=(self.site.name,))
        save(
            self.local_file,
            network.cpu(),
            outputs=list(self.experiment.outcomes),
            description=f"local-only model of {self.site.name}, {self.experiment.name}",
            **write_lineage((*read_lineage(self.base.metadata), own)),
        )
        manifest, packed = None, None
        if request.travel and self.site.settings.policy.share_local_model:
            stage = self.schedule.last_stage
            manifest, packed = pack(
                {k: v.cpu().numpy() for k, v in network.state_dict().items()},
                stage_tensors(network, stage, self.experiment.recipe),
                round_=self.schedule.rounds,
                stage=stage,
                base_sha256=self.base.digest,
            )
        seconds = time.perf_counter() - started
        return BaselineReply(loss=loss, seconds=seconds, manifest=manifest), packed

    def validation(self, request: ValidationRequest, packed: Packed | None) -> ValidationReply:
        """Evaluate mixtures of the global model and the base on the validation patients."""
        torch.set_num_threads(self.threads)
        stage, rounds = self.schedule.last_stage, self.schedule.rounds
        tuned = self.global_model(request.manifest, packed, stage, rounds)
        mixtures = (interpolate(self.base.network, tuned, alpha) for alpha in request.alphas)
        return ValidationReply(figures=[self._monitoring(network) for network in mixtures])

    # Parts of these

    def _train(
        self, network: nn.Module, round_: int, moments: Mapping[str, Tensor]
    ) -> TrainingFigures:
        assert isinstance(network, ResNet)
        self.trained.record(self.experiment.identity, self.keys("train"))
        try:
            figures = train_round(
                network,
                self.training,
                self.schedule,
                round_,
                seed=self._seed(round_),
                device=self.device,
                moments=moments,
                store=self.activations,
                progress=self._report_steps(),
            )
        except (TooLittleMemoryError, torch.OutOfMemoryError) as error:
            raise SiteProblem("device", f"too little memory: {error}") from error
        for adjustment in figures.adjustments:
            self.log.warning("%s, round %d: %s", self.site.name, round_ + 1, adjustment)
        return figures

    def _report_steps(self) -> Callable[[int, int], None]:
        """A progress report for long rounds: a log line every ten seconds."""
        last = time.monotonic()

        def report(step: int, steps: int) -> None:
            nonlocal last
            if time.monotonic() - last > 10:
                last = time.monotonic()
                self.log.info("%s: step %d of %d", self.site.name, step, steps)

        return report

    def _monitoring(self, network: nn.Module) -> dict[str, Monitoring]:
        assert isinstance(network, ResNet)
        validation = self.parts["validation"]
        logits = score(network, validation.images, device=self.device)
        found = {}
        for k, outcome in enumerate(self.experiment.outcomes):
            there, units = known(validation.labels[:, k], validation.patients)
            found[outcome] = self.disclosure.monitoring(logits[there, k], units)
        return found

    @property
    def local_file(self) -> Path:
        """Where the site's local-only model is kept."""
        return self.folder / "local.safetensors"

    def _seed(self, round_: int) -> int:
        text = f"{self.experiment.seed}:{self.site.name}:{round_}"
        return int.from_bytes(sha256(text.encode()).digest()[:4])

    def global_model(
        self, manifest: Manifest, packed: Packed | None, stage: Stage, round_: int
    ) -> ResNet:
        """The base with the received tensors in it, and with the site's own normalisation where
        the recipe keeps that local. A site that never trained has none: it uses the base's."""
        network = self._received(manifest, packed, stage, round_)
        assert isinstance(network, ResNet)
        return network

    def _received(
        self, manifest: Manifest, packed: Packed | None, stage: Stage, round_: int
    ) -> nn.Module:
        network = copy.deepcopy(self.start.network)
        received = self.link.receive(manifest, packed, stage, round_)
        network.load_state_dict({k: torch.tensor(v) for k, v in received.items()}, strict=False)
        if self.experiment.recipe.batchnorm == "local":
            own = network.state_dict().keys() & (kept := self.kept.before(round_)).keys()
            network.load_state_dict({name: kept[name] for name in own}, strict=False)
        return network
