"""Data of one site for one experiment: patients, their division, images and starting weights."""

from dataclasses import replace
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray

from fedrad.client.cohort import (
    Cohort,
    Division,
    Pseudonyms,
    divide,
    patient_numbers,
    read_cohort,
    remove_unusable,
)
from fedrad.client.cohort.division import is_held_out
from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.plausibility import why_implausible
from fedrad.client.images import ImageStore, StoredImages
from fedrad.client.log import site_log
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import Missing, Release, SplitPart
from fedrad.exchange.lineage import read_lineage
from fedrad.models.activations import ActivationStore
from fedrad.models.examples import Examples
from fedrad.models.progression.generators import OpenedGenerator
from fedrad.models.weight_files import WeightsError
from fedrad.models.weights import BaseWeights, StartingNetwork
from fedrad.stats.exact import Logits, Units
from fedrad.system.resources import usable_cores

from .patient_uses import PatientUses
from .score_store import forget_scores
from .simulated_images import SimulatedImages, open_recipe_generator
from .trained_patients import TrainedPatients, check_lineage
from .withdrawal import withdrawn_now

ALL_THREADS = min(torch.get_num_threads(), usable_cores())
"""Number of threads that PyTorch uses by default: OMP_NUM_THREADS, or all cores that it sees; never
more than this process may use."""


class SiteData:
    """Patients, images and weights of one site for one experiment; each is read when it is first
    needed.

    Parameters
    ----------
    site
        The site.
    experiment
        The experiment.
    record_division
        Whether the part that is drawn for a new patient is recorded (see `divide`). False for a
        preview of the division.
    """

    def __init__(self, site: Site, experiment: Experiment, *, record_division: bool = True) -> None:
        self.site = site
        self.experiment = experiment
        self._record_division = record_division
        self.log = site_log(site.name, site.state)
        self.schedule = experiment.schedule
        self.folder = site.state / "experiments" / f"{experiment.name}-{experiment.identity}"

    @cached_property
    def pseudonyms(self) -> Pseudonyms:
        """The pseudonyms of the site's patients."""
        return Pseudonyms.of_site(self.site)

    @cached_property
    def disclosure(self) -> Disclosure:
        """The disclosure rule of the site in this experiment."""
        # In a simulation, which is one person's, the noise must be the same in every run.
        secret = (
            self.pseudonyms.secret("noise")
            if self.site.joined
            else sha256(f"noise of the simulated site {self.site.name}".encode()).digest()
        )
        return Disclosure.of(self.site.settings.policy, self.experiment, secret)

    @cached_property
    def trained_patients(self) -> TrainedPatients:
        """Record of the patients that each experiment trained on at this site."""
        folder = self.site.state / "trained"
        return TrainedPatients(folder, pseudonyms=self.pseudonyms.fingerprint)

    @cached_property
    def patient_uses(self) -> PatientUses:
        """Record of what each patient has been in, over all experiments."""
        folder = self.site.state / "uses"
        return PatientUses(folder, self.trained_patients, self.pseudonyms.fingerprint)

    @cached_property
    def device(self) -> torch.device:
        """The device by `site.toml`. Raises SiteProblem("device") if its GPU is absent."""
        wanted = self.site.settings.device
        if wanted == "cuda" and not torch.cuda.is_available():
            raise SiteProblem("device", 'device = "cuda", but PyTorch sees no GPU')
        name = "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
        return torch.device(name)

    @cached_property
    def threads(self) -> int:
        """Number of CPU threads that PyTorch uses for this site."""
        return self.site.settings.threads or ALL_THREADS

    @cached_property
    def start(self) -> StartingNetwork:
        """The starting network. Raises SiteProblem("weights") if it is missing."""
        try:
            return self.experiment.task.load_start(self.experiment)
        except WeightsError as error:
            raise SiteProblem("weights", str(error)) from error

    @property
    def base(self) -> BaseWeights:
        """The base weights from which a classifier starts; the same as `start`."""
        assert isinstance(self.start, BaseWeights)
        return self.start

    @cached_property
    def cohort(self) -> Cohort:
        """Units with a readable image, and the files that were set aside."""
        return self._loaded[0]

    @cached_property
    def _loaded(self) -> tuple[Cohort, StoredImages, NDArray[np.float32]]:
        settings = self.site.settings
        if withdrawn := withdrawn_now(self.site):  # a visit may have scored them meanwhile
            forget_scores(self.site.state / "experiments", withdrawn)
        store = ImageStore(
            self.site.state / "images", limit_gib=settings.images_gib, workers=settings.decoders
        )
        listed = read_cohort(self.site, self.experiment, store.instance_uids)
        files = [unit.file for unit in listed.units]
        images, readings = store.load(files, self.experiment.model.input, self._report_decoding)
        cohort, usable = remove_unusable(listed, readings)
        set_aside = cohort.set_aside
        for name, reason in set_aside.items():
            self.log.warning("set aside %s: %s", name, reason)
        for name, reason in cohort.repeated.items():
            self.log.warning("not used again %s: %s", name, reason)
        for name, reason in cohort.unordered.items():
            self.log.warning("left out %s: %s", name, reason)
        self.log.info("%s: %s", self.site.name, cohort.read)
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
        """Whether this site takes no part in training or in choices."""
        return is_held_out(self.site, self.experiment)

    @cached_property
    def rows(self) -> Division:
        """Part of the split -> rows of the cohort's units."""
        return self.rows_of(self.experiment.evaluation.fold_number)

    def rows_of(self, fold: int) -> Division:
        """Part of the split -> rows, in one fold of a cross-validation or in the single split,
        without the patients who are left out."""
        divided, out = self._divided(fold), self.left_out
        if not out:
            return divided
        kept = np.array([unit.key not in out for unit in self.cohort.units], dtype=bool)
        return {part: rows[kept[rows]] for part, rows in divided.items()}

    def _divided(self, fold: int) -> Division:
        units = self.cohort.units
        return divide(self.site, self.experiment, units, fold, record=self._record_division)

    @cached_property
    def left_out(self) -> frozenset[str]:
        """Patients who have reached a limit of `policy.budget` by other experiments. In a
        cross-validation everyone trains and is tested."""
        units, evaluation = self.cohort.units, self.experiment.evaluation
        everyone = [unit.key for unit in units]
        if evaluation.folds and not self.held_out:
            of: dict[SplitPart, list[str]] = {"train": everyone, "test": everyone}
        else:
            parts = self._divided(evaluation.fold_number)
            of = {part: [everyone[row] for row in rows] for part, rows in parts.items()}
        trains = of.pop("train")
        out = self.patient_uses.admit(
            self.experiment,
            self.site.settings.policy,
            trains,
            of,
            record=self._record_division,
        )
        here = out.intersection(everyone)
        if here:
            self.log.warning(
                "%d patients have reached a limit of policy.budget by other experiments and are "
                "left out of this one",
                len(here),
            )
        return here

    def count_release(self, released: Release) -> None:
        """Record, before a release is sent, whom it counts and with which ε."""
        if self.experiment.evaluation.folds and not self.held_out:
            keys = {unit.key for unit in self.cohort.units} - self.left_out
        else:
            keys = set(self.keys(released.part))
        epsilon = released.epsilon or 0.0
        if released.part == "validation":
            epsilon += self.disclosure.epsilon_of_monitoring
        self.patient_uses.count_release(self.experiment, released.part, keys, epsilon)

    @cached_property
    def parts(self) -> dict[SplitPart, Examples]:
        """Part of the split -> its examples. Raises SiteProblem if base weights or generator were
        trained on test or validation patients."""
        held_out: dict[SplitPart, list[str]] = {p: self.keys(p) for p in ("test", "validation")}
        for what, weights in (("the base weights", self.start), ("the generator", self.generator)):
            if weights is not None:
                lineage = read_lineage(weights.metadata)
                check_lineage(lineage, self.site.name, self.trained_patients, held_out, what=what)
        cohort, images, labels = self._loaded
        patients = None
        if self.experiment.unit == "image":
            patients = patient_numbers(unit.key for unit in cohort.units)
        return {
            part: Examples(
                images.select(index), labels[index], None if patients is None else patients[index]
            )
            for part, index in self.rows.items()
        }

    @cached_property
    def generator(self) -> OpenedGenerator | None:
        """The generator of `recipe.progression`; None if the recipe has no simulated images."""
        experiment = self.experiment
        if not experiment.recipe.progression.probability:
            return None
        return open_recipe_generator(
            experiment.recipe.progression, experiment.outcomes, experiment.model.input
        )

    @cached_property
    def training(self) -> Examples:
        """The training examples, with simulated later steps if the recipe has them."""
        examples = self.parts["train"]
        if self.generator is None:
            return examples
        simulated = SimulatedImages(
            self.experiment.recipe.progression,
            self.generator,
            self.experiment.outcomes,
            self.site.state / "progressions",
            self.device,
            self.log,
        )
        return replace(examples, later=simulated.later_steps(examples))

    def check_scores(self, logits: Logits, units: Units, part: SplitPart, outcome: str) -> None:
        """Check that the scores of a received model can be those of a trained one.

        Parameters
        ----------
        logits
            (n,) raw logits.
        units
            The n units of a part with a known outcome.
        part, outcome
            For the message.

        Raises
        ------
        SiteProblem
            "implausible", as `why_implausible` says.
        """
        if why := why_implausible(logits, self.disclosure.minimum_units, units.patients):
            raise SiteProblem(
                "implausible",
                f"the received model, {outcome}, {part} patients: {why}. Either its training has "
                "collapsed, or it was made to find out about patients. Nothing more is answered "
                "to this experiment",
            )

    def keys(self, part: SplitPart) -> list[str]:
        """Pseudonym of the patient of each unit of a part. They are never sent."""
        return [self.cohort.units[row].key for row in self.rows[part]]

    @cached_property
    def does_not_train_because(self) -> Missing | None:
        """Why this site does not train but only evaluates; None if it trains."""
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

    @cached_property
    def activations(self) -> ActivationStore | None:
        """Store of activations of frozen blocks, shared by the experiments of this site."""
        limit = int(self.site.settings.activations_gib * 2**30)
        if not self.experiment.recipe.views or not limit:
            return None
        return ActivationStore(self.site.state / "activations", limit)
