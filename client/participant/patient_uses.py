"""Record of what each patient has been in, over all experiments: who trained, and who was counted
in figures with which ε. The folds of a cross-validation are one experiment."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from fedrad.client.policy.planned_epsilon import planned_epsilon
from fedrad.client.problems import SiteProblem, needed_record
from fedrad.client.settings import Policy
from fedrad.exchange.experiment import Experiment
from fedrad.system.files import JsonFile, locked
from fedrad.system.folders import make_folder

from .budget import Spent
from .earlier_releases import earlier_releases
from .trained_patients import TrainedPatients

if TYPE_CHECKING:
    from fedrad.exchange.figures import SplitPart  # imports NumPy, which takes a while

_SAYS = "says what patients have been in"


class UseRecord(BaseModel):
    """What one experiment uses patients for.

    Attributes
    ----------
    pseudonyms
        Fingerprint of the salt.
    name, family
        Name of the experiment, and identity that all its folds share.
    since
        When this site was first ready for it (UTC).
    trains
        Patients who train.
    counted
        Part -> patients whom its figures count.
    left_out
        Patients who had reached a limit when they were first seen.
    planned
        Part -> largest ε of its figures.
    released
        Part -> ε of the figures that were released.
    """

    format: Literal[1] = 1
    pseudonyms: str
    name: str
    family: str
    since: str
    trains: set[str] = set()
    counted: dict[str, set[str]] = {}
    left_out: set[str] = set()
    planned: dict[str, float] = {}
    released: dict[str, float] = {}

    def epsilon(self, part: str) -> float:
        """ε of a part: that of its release, or before it the planned one."""
        return self.released.get(part, self.planned.get(part, 0.0))


class PatientUses:
    """`uses/FAMILY.json` of the state folder, one file for each experiment. Never sent.

    An experiment counts from the moment that the site is ready for it, so that two that begin at
    once do not both pass a limit that only one of them may.

    Parameters
    ----------
    folder
        The folder `uses`.
    trained
        The record of those who trained; experiments of earlier versions stand only there.
    pseudonyms
        Fingerprint of the salt. None to read records only, whatever the salt.
    """

    def __init__(
        self, folder: Path, trained: TrainedPatients, pseudonyms: str | None = None
    ) -> None:
        self.folder = folder
        self.trained = trained
        self.pseudonyms = pseudonyms

    def admit(
        self,
        experiment: Experiment,
        policy: Policy,
        trains: Iterable[str],
        counted: Mapping["SplitPart", Iterable[str]],
        *,
        record: bool,
    ) -> frozenset[str]:
        """The patients who are left out of an experiment, because they have reached a limit of the
        budget by other ones.

        It is decided when a patient is first seen in the experiment, and stays so to its end, also
        if others begin meanwhile or the limits change.

        Parameters
        ----------
        experiment
            The experiment.
        policy
            The site's policy, with the budget.
        trains
            Pseudonyms of the patients who would train.
        counted
            Part -> pseudonyms of the patients whom its figures would count.
        record
            Whether the decision is recorded. A preview records nothing.

        Raises
        ------
        SiteProblem
            "cohort", if a record cannot be read or written, or has other pseudonyms.
        """
        if not record:
            use = self._file(experiment).read() or self._new(experiment)
            self._decide(use, experiment, policy, set(trains), counted)
            return frozenset(use.left_out)
        with self._changed(experiment) as use:
            self._decide(use, experiment, policy, set(trains), counted)
        return frozenset(use.left_out)

    def count_release(
        self, experiment: Experiment, part: "SplitPart", keys: Iterable[str], epsilon: float
    ) -> None:
        """Record a release before it is sent.

        Parameters
        ----------
        experiment
            The experiment.
        part
            Part of the release.
        keys
            Pseudonyms of the patients whom it counts.
        epsilon
            Its ε, with that of the monitoring of this part; 0 without noise.
        """
        with self._changed(experiment) as use:
            use.counted[part] = use.counted.get(part, set()) | set(keys)
            use.released[part] = max(epsilon, use.released.get(part, 0.0))

    def spent(self, but: str | None = None) -> Spent:
        """What patients have been in, without the experiment of one family."""
        experiments, releases = Counter[str](), Counter[str]()
        epsilon: dict[str, float] = {}
        trained: dict[str, set[str]] = {}
        for identity, record in self.trained.all().items():
            trained.setdefault(record.family or identity, set()).update(record.keys)
        every = self.all()
        for use in every:
            trained.setdefault(use.family, set()).update(use.trains)
            if use.family == but:
                continue
            releases.update(set().union(*use.counted.values()))
            for part, keys in use.counted.items():
                for key in keys:
                    epsilon[key] = epsilon.get(key, 0.0) + use.epsilon(part)
        known = [use.family for use in every]
        earlier: dict[str, set[str]] = {}
        for one in earlier_releases(self.folder.parent / "experiments"):
            if any(family.startswith(one.experiment) for family in known):
                continue
            earlier.setdefault(one.experiment, set()).update(one.keys)
            for key in one.keys:
                epsilon[key] = epsilon.get(key, 0.0) + one.epsilon
        for keys in earlier.values():
            releases.update(keys)
        for family, keys in trained.items():
            if family != but:
                experiments.update(keys)
        return Spent(experiments, releases, epsilon)

    def all(self) -> list[UseRecord]:
        """The records of all experiments. Raises SiteProblem if one cannot be read."""
        files = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []
        with needed_record(_SAYS):
            every = [use for file in files if (use := JsonFile(file, UseRecord).read())]
        for use in every:
            self._check(use)
        return every

    def _decide(
        self,
        use: UseRecord,
        experiment: Experiment,
        policy: Policy,
        trains: set[str],
        counted: Mapping["SplitPart", Iterable[str]],
    ) -> None:
        """Admit the patients that are new in an experiment, or leave them out."""
        self._check(use)
        use.planned = planned_epsilon(experiment, policy) | use.planned
        of = {part: set(keys) for part, keys in counted.items()}
        new = trains.union(*of.values()) - use.trains.union(use.left_out, *use.counted.values())
        if not new:
            return
        spent = self.spent(but=use.family)
        for key in new:
            parts = [part for part, keys in of.items() if key in keys]
            planned = sum(use.planned.get(part, 0.0) for part in parts)
            if spent.why_over(
                key, policy.budget, trains=key in trains, counted=bool(parts), planned=planned
            ):
                use.left_out.add(key)
                continue
            if key in trains:
                use.trains.add(key)
            for part in parts:
                use.counted.setdefault(part, set()).add(key)

    @contextmanager
    def _changed(self, experiment: Experiment) -> Iterator[UseRecord]:
        """The record of an experiment, to be changed; no other process decides meanwhile."""
        make_folder(self.folder)
        with (
            needed_record(_SAYS),
            locked(self.folder / "all"),
            self._file(experiment).changed(lambda: self._new(experiment)) as use,
        ):
            self._check(use)
            yield use

    def _new(self, experiment: Experiment) -> UseRecord:
        assert self.pseudonyms is not None
        return UseRecord(
            pseudonyms=self.pseudonyms,
            name=experiment.name,
            family=experiment.family,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _file(self, experiment: Experiment) -> JsonFile[UseRecord]:
        return JsonFile(self.folder / f"{experiment.family}.json", UseRecord)

    def _check(self, use: UseRecord) -> None:
        if self.pseudonyms not in (None, use.pseudonyms):
            raise SiteProblem(
                "cohort",
                f"{self.folder}: was made with other pseudonyms than this site makes now, so what "
                "its patients have been in is not known; restore the state folder it belongs to",
            )
