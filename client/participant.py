"""One site in one experiment: what it answers to each request."""

import copy
import importlib.metadata
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedrad.exchange.encoding import Packed
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import Missing, Part
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
from fedrad.models.activations import Store
from fedrad.models.ensemble import interpolate
from fedrad.models.examples import Examples
from fedrad.models.network import ResNet, local_tensors, stage_tensors
from fedrad.models.optimizer import TooLittleMemoryError
from fedrad.models.progression.opened import Opened
from fedrad.models.settings import Stage
from fedrad.models.training import TrainingFigures, score, train_round
from fedrad.models.weight_files import WeightsError
from fedrad.models.weights import Base, Start, load_base, save

from .cohort import Cohort, Folds, Pseudonyms, SplitFile, numbered, read_cohort, sift
from .disclosure import Disclosure
from .figures import known
from .images import ImageStore, StoredImages
from .kept import Kept
from .link import Link
from .log import site_log
from .problems import SiteProblem
from .settings import Site
from .trained import TrainedUnits, check_lineage
from .trajectories import Trajectories, generator_of

ALL_THREADS = torch.get_num_threads()
"""What PyTorch takes of its own accord: all cores, or OMP_NUM_THREADS."""


class Participant:
    """A site taking part in an experiment. Everything is read when first needed."""

    def __init__(self, site: Site, experiment: Experiment) -> None:
        self.site = site
        self.experiment = experiment
        self.log = site_log(site.name, site.state)
        self.schedule = experiment.schedule
        policy = site.settings.policy
        self.disclosure = Disclosure(
            max(policy.minimum_units, experiment.evaluation.minimum_units),
            policy.minimum_bin, policy.epsilon,
            histograms=policy.share_histograms, subgroups=policy.share_subgroups,
        )  # fmt: skip
        self.folder = site.state / "experiments" / f"{experiment.name}-{experiment.identity[:12]}"
        self.kept = Kept(self.folder / "kept")

    # What the site has

    @cached_property
    def pseudonyms(self) -> Pseudonyms:
        """The site's own way of naming patients."""
        return Pseudonyms.kept(self.site.state)

    @cached_property
    def trained(self) -> TrainedUnits:
        """Whom earlier experiments trained on here."""
        return TrainedUnits(self.site.state / "trained", pseudonyms=self.pseudonyms.fingerprint)

    @cached_property
    def device(self) -> torch.device:
        """The device of `site.toml`; a GPU that is asked for and absent is a problem."""
        wanted = self.site.settings.device
        if wanted == "cuda" and not torch.cuda.is_available():
            raise SiteProblem("device", 'device = "cuda", but PyTorch sees no GPU')
        name = "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
        return torch.device(name)

    @cached_property
    def threads(self) -> int:
        """CPU threads that PyTorch uses for this site."""
        return self.site.settings.threads or ALL_THREADS

    @cached_property
    def base(self) -> Base:
        """The base weights, by name and hash. SiteProblem("weights") where they are not here."""
        model, recipe = self.experiment.model, self.experiment.recipe
        try:
            return load_base(
                model, len(self.experiment.outcomes), seed=self.experiment.seed,
                dropout=recipe.dropout,
            )  # fmt: skip
        except WeightsError as error:
            raise SiteProblem("weights", str(error)) from error

    @cached_property
    def start(self) -> Start:
        """The network that training starts from."""
        return self.base

    @cached_property
    def link(self) -> Link:
        """The exchange of weights, with what it keeps."""
        return Link(self.experiment, self.start, self.folder / "exchange")

    @cached_property
    def cohort(self) -> Cohort:
        """Units that have a readable image, and all that was set aside."""
        return self._loaded[0]

    @cached_property
    def _loaded(self) -> tuple[Cohort, StoredImages, NDArray[np.float32]]:
        settings = self.site.settings
        store = ImageStore(
            self.site.state / "images", limit_gib=settings.images_gib, workers=settings.decoders
        )
        listed = read_cohort(self.site, self.experiment, store.instance_uids)
        files = [unit.file for unit in listed.units]
        images, readings = store.load(files, self.experiment.model.input, self._report_decoding)
        cohort, usable = sift(listed, readings)
        set_aside = cohort.set_aside
        for name, reason in set_aside.items():
            self.log.warning("set aside %s: %s", name, reason)
        for name, reason in cohort.repeated.items():
            self.log.warning("not used again %s: %s", name, reason)
        share = len(set_aside) / (len(files) + len(listed.set_aside))
        if share > self.site.settings.tolerance:
            raise SiteProblem(
                "broken files",
                f"{len(set_aside)} files set aside, {share:.1%}; site.toml tolerates "
                f"{self.site.settings.tolerance:.1%}",
            )
        labels = np.array([unit.labels for unit in cohort.units], dtype=np.float32)
        labels = labels.reshape(len(cohort.units), len(self.experiment.outcomes))
        return cohort, images.select(usable), labels

    def _report_decoding(self, done: int, of: int) -> None:
        if done % 200 == 0 or done == of:
            self.log.info("%s: decoded %d of %d images", self.site.name, done, of)

    @property
    def held_out(self) -> bool:
        """Whether this site takes no part in training or choices."""
        return self.site.name in self.experiment.evaluation.held_out

    @cached_property
    def rows(self) -> dict[Part, NDArray[np.int64]]:
        """Rows of the cohort's units by part of the split."""
        return self.rows_of(self.experiment.evaluation.fold_number)

    def rows_of(self, fold: int) -> dict[Part, NDArray[np.int64]]:
        """Rows by part in one fold of a cross-validation; without folds there is one split. All are
        for testing where the experiment holds this site out."""
        if self.held_out:
            none, everybody = np.array([], np.int64), np.arange(len(self.cohort.units))
            return {"train": none, "validation": none, "test": everybody}
        where = self.site.state, self.experiment, self.pseudonyms.fingerprint
        if self.experiment.evaluation.folds:
            return Folds(*where).divide(self.cohort.units, fold)
        return SplitFile(*where).divide(self.cohort.units)

    @cached_property
    def parts(self) -> dict[Part, Examples]:
        """The site's examples by part of the split; none before it is certain that the base
        weights were not trained on those held out."""
        check_lineage(
            read_lineage(self.start.metadata), self.site.name, self.trained,
            {"test": self.keys("test"), "validation": self.keys("validation")},
        )  # fmt: skip
        if self.generator is not None:
            check_lineage(
                read_lineage(self.generator.metadata), self.site.name, self.trained,
                {"test": self.keys("test"), "validation": self.keys("validation")},
                what="the generator",
            )  # fmt: skip
        cohort, images, labels = self._loaded
        whose = None
        if self.experiment.unit == "image":
            whose = numbered(unit.key for unit in cohort.units)
        return {
            part: Examples(
                images.select(index), labels[index], None if whose is None else whose[index]
            )
            for part, index in self.rows.items()
        }

    @cached_property
    def generator(self) -> Opened | None:
        """The generator of `recipe.progression`; None where no simulated image is asked for."""
        experiment = self.experiment
        if not experiment.recipe.progression.probability:
            return None
        return generator_of(
            experiment.recipe.progression, experiment.outcomes, experiment.model.input
        )

    @cached_property
    def training(self) -> Examples:
        """The training examples, with simulated later steps where the recipe asks for them."""
        examples = self.parts["train"]
        if self.generator is None:
            return examples
        trajectories = Trajectories(
            self.experiment.recipe.progression, self.generator, self.experiment.outcomes,
            self.site.state / "progressions", self.device, self.log,
        )  # fmt: skip
        return replace(examples, later=trajectories.of(examples))

    def keys(self, part: Part) -> list[str]:
        """Pseudonyms of the patients of a part's units; they stay at the site."""
        return [self.cohort.units[row].key for row in self.rows[part]]

    @cached_property
    def does_not_train_because(self) -> Missing | None:
        """Why this site only evaluates; None if it trains."""
        if self.held_out:
            return "held out"
        labels = self.parts["train"].labels
        known = labels[~np.isnan(labels)]
        if len(labels) < self.disclosure.minimum_units or len(known) == 0:
            return "below minimum"
        one_class = all(len(np.unique(c[~np.isnan(c)])) < 2 for c in labels.T)
        if one_class and not self.experiment.federation.train_one_class:
            return "one class"
        return None

    # What the site answers

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
                manifest=None, patients=0, images=0, loss=None, steps=0, monitoring=monitoring,
                seconds=time.perf_counter() - started,
            )  # fmt: skip
            return reply, None
        figures = self._train(network, request.round, self.kept.before(request.round))
        own = local_tensors(network, stage, self.experiment.recipe)
        state = network.state_dict()
        self.kept.save(request.round, figures.moments | {name: state[name].cpu() for name in own})
        manifest, update = self.link.send(state, stage, request.round)
        reply = RoundReply(
            manifest=manifest, patients=len(set(self.keys("train"))),
            images=len(self.parts["train"]), loss=figures.loss, steps=figures.steps,
            monitoring=monitoring, seconds=time.perf_counter() - started,
        )  # fmt: skip
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
                self.site.name, round_ + 1, self.schedule.rounds, loss,
            )  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        own = Ancestor(experiment=self.experiment.identity, sites=(self.site.name,))
        save(
            self.local_file, network.cpu(), outputs=list(self.experiment.outcomes),
            description=f"local-only model of {self.site.name}, {self.experiment.name}",
            **write_lineage((*read_lineage(self.base.metadata), own)),
        )  # fmt: skip
        manifest, packed = None, None
        if request.travel and self.site.settings.policy.share_local_model:
            stage = self.schedule.last_stage
            manifest, packed = pack(
                {k: v.cpu().numpy() for k, v in network.state_dict().items()},
                stage_tensors(network, stage, self.experiment.recipe),
                round_=self.schedule.rounds, stage=stage, base_sha256=self.base.digest,
            )  # fmt: skip
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
                network, self.training, self.schedule, round_, seed=self._seed(round_),
                device=self.device, moments=moments, store=self.activations,
                progress=self._report_steps(),
            )  # fmt: skip
        except (TooLittleMemoryError, torch.OutOfMemoryError) as error:
            raise SiteProblem("device", f"too little memory: {error}") from error
        for adjustment in figures.adjustments:
            self.log.warning("%s, round %d: %s", self.site.name, round_ + 1, adjustment)
        return figures

    @cached_property
    def activations(self) -> Store | None:
        """What frozen blocks make of fixed views, shared by this site's experiments."""
        limit = int(self.site.settings.activations_gib * 2**30)
        if not self.experiment.recipe.views or not limit:
            return None
        return Store(self.site.state / "activations", limit)

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
