"""Record of the patients that each experiment trained on at this site. With it, training patients
of an earlier experiment are not used as new test patients."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.lineage import Lineage
from fedrad.system.files import JsonFile, UnreadableFileError
from fedrad.system.folders import make_folder

if TYPE_CHECKING:
    from fedrad.exchange.figures import SplitPart  # imports NumPy, which takes a while


class TrainingRecord(BaseModel):
    """The patients that one experiment trained on.

    `pseudonyms`: fingerprint of the salt. `name`, `family`: name of the experiment, and the
    identity that all its folds share; "" in a record of an earlier version (format 1). `since`:
    when it first trained (UTC). `keys`: pseudonyms of the patients, sorted.
    """

    format: Literal[1, 2] = 2
    pseudonyms: str
    name: str = ""
    family: str = ""
    since: str = ""
    keys: list[str] = []


class TrainedPatients:
    """Pseudonyms of the patients that experiments trained on at this site, in
    `trained/EXPERIMENT.json` of the state folder, by identity of the experiment. Never sent.

    `pseudonyms` is the fingerprint of the salt of the pseudonyms. A record with another salt would
    match no patient, so it is refused like a missing one. None to read records only.
    """

    def __init__(self, folder: Path, pseudonyms: str | None = None) -> None:
        self.folder = folder
        self.pseudonyms = pseudonyms

    def record(self, experiment: Experiment, keys: Iterable[str]) -> None:
        """Add patients to the record of an experiment, before it trains on them."""
        more = set(keys)
        if not more:
            return
        make_folder(self.folder)
        file = self._file(experiment.identity)
        with _readable(), file.changed(lambda: self._new(experiment)) as record:
            self._check(file.path, record)
            record.keys = sorted(more.union(record.keys))

    def all(self) -> dict[str, TrainingRecord]:
        """Identity of each experiment that trained here -> its record.

        Raises SiteProblem for a record that cannot be read.
        """
        records = {}
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ():
            with _readable():
                record = self._file(path.stem).read()
            if record is not None:
                self._check(path, record)
                records[path.stem] = record
        return records

    def keys(self, experiment: str) -> frozenset[str] | None:
        """Patients that an experiment trained on at this site; None if there is no record.

        Raises SiteProblem for a record that cannot be read.
        """
        file = self._file(experiment)
        with _readable():
            record = file.read()
        if record is None:
            return None
        self._check(file.path, record)
        return frozenset(record.keys)

    def _new(self, experiment: Experiment) -> TrainingRecord:
        assert self.pseudonyms is not None
        return TrainingRecord(
            pseudonyms=self.pseudonyms,
            name=experiment.name,
            family=experiment.family,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _check(self, file: Path, record: TrainingRecord) -> None:
        if self.pseudonyms not in (None, record.pseudonyms):
            raise SiteProblem(
                "trained on test patients",
                f"{file}: was made with other pseudonyms than this site makes now, so its patients "
                "cannot be recognised; restore the state folder it belongs to",
            )

    def _file(self, experiment: str) -> JsonFile[TrainingRecord]:
        return JsonFile(self.folder / f"{experiment}.json", TrainingRecord)


@contextmanager
def _readable() -> Iterator[None]:
    """Turn the error of an unreadable record into a SiteProblem with advice."""
    try:
        yield
    except UnreadableFileError as error:
        raise SiteProblem("trained on test patients", f"{error}; restore it") from error


def check_lineage(
    lineage: Lineage,
    site: str,
    trained: TrainedPatients,
    held_out: Mapping["SplitPart", Iterable[str]],
    *,
    what: str = "the base weights",
) -> None:
    """Check that the starting weights were not trained on held-out patients.

    Validation patients are held out like test patients: threshold, calibration and ensemble weight
    are chosen on them, and the choice would be biased if the model was trained on them.

    Parameters
    ----------
    lineage
        The experiments that trained the weights.
    site
        Name of this site.
    trained
        Record of the patients that were trained on at this site.
    held_out
        Part of the division -> pseudonyms of its patients.
    what
        Name of the weights in error messages.

    Raises
    ------
    SiteProblem
        "trained on test patients": the weights were trained on a held-out patient, or at this
        site and its record is missing.
    """
    for ancestor in lineage:
        keys = trained.keys(ancestor.experiment)
        short = ancestor.experiment[:12]
        if keys is None:
            if site not in ancestor.sites:
                continue
            raise SiteProblem(
                "trained on test patients",
                f"{what}: trained here in experiment {short}, but {trained.folder} has no record "
                "of the patients: restore it, or ask for others",
            )
        for part, units in held_out.items():
            if again := len(keys.intersection(units)):
                raise SiteProblem(
                    "trained on test patients",
                    f"{again} {part} patients of this experiment trained {what} in experiment "
                    f"{short}: ask for that experiment's seed, outcomes and shares (then the same "
                    "patients are held out), or for others",
                )
