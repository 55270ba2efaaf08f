"""Divides a site's patients into training, validation and test: the only place that does so."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, JsonValue

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import SplitPart
from fedrad.system.files import JsonFile, UnreadableFileError
from fedrad.system.folders import make_folder

from .assignment import PARTS, Patient, assign_folds, assign_parts, patients_of
from .patients import PatientDraw, Pseudonyms
from .units import Unit

Division: TypeAlias = dict[SplitPart, NDArray[np.int64]]
"""Part -> rows of a list of units; each row is in exactly one part."""

Assignment = TypeVar("Assignment", SplitPart, tuple[int, ...])
"""The part of a patient, or the test fold in each repeat of a cross-validation."""


class _Content(BaseModel, Generic[Assignment]):
    """Content of a division file.

    `plan`: the settings that decide the division. `salt`: fingerprint of the salt of the
    pseudonyms. `key`: fingerprint of the key of the draw; None for a draw without a key, as in
    simulations and earlier versions. `patients`: pseudonym -> assignment. `others`: in a
    cross-validation, number of a training -> part of each patient whom it does not test.
    """

    format: Literal[1] = 1
    plan: dict[str, JsonValue]
    salt: str
    key: str | None = None
    patients: dict[str, Assignment]
    others: dict[int, dict[str, SplitPart]] = {}


def divide(
    site: Site, experiment: Experiment, units: Sequence[Unit], fold: int, *, record: bool = True
) -> Division:
    """Divide the patients of a site; all images of a patient go into the same part.

    The division is stored in `splits/PLAN.json` in the site's state folder, where PLAN is the
    SHA-256 of the settings that decide it: experiments with the same plan have the same division. A
    patient in the file never changes to another part, even if the patient is missing from the table
    for a time. Delete the file to divide all patients anew; figures on test patients may then
    include patients that earlier models were trained on. One process at a time reads, draws and
    writes.

    In a cross-validation the file holds the fold that tests each patient, and, for each training,
    the part of the others. So nobody who trained a fold's model validates it, even if patients are
    added or withdraw between two rounds. A held-out site tests on all its patients and has no file.

    New patients are drawn by digests that only this site can compute (`PatientDraw`).

    Parameters
    ----------
    site
        The site, whose state folder has the file.
    experiment
        The experiment: outcomes, unit, seed and `[evaluation]` decide the division.
    units
        The n units of the site's cohort.
    fold
        Number of the training within a cross-validation, 0 to folds · repeats - 1. Without folds
        there is one division, and this is ignored.
    record
        Whether new patients are added to the file. An inspection of the cohort does not add them:
        it shows the parts that a training would use now, and assigns no patient for good before
        the table is correct.

    Returns
    -------
    Division
        Rows of `units` of each part, ascending; together 0 to n - 1.

    Raises
    ------
    SiteProblem
        If the file is damaged, was made with another salt, contradicts the table or cannot be
        written; if both the table and the experiment divide the patients; if there are fewer
        patients than folds.
    """
    if is_held_out(site, experiment):
        parts: dict[str, SplitPart] = {unit.key: "test" for unit in units}
    else:
        patients = patients_of(units, experiment.evaluation)
        file = _DivisionFile(site, experiment, record=record)
        if experiment.evaluation.folds:
            parts = _by_fold(file, experiment, patients, fold)
        else:
            parts = _by_share(file, experiment, patients)
    return {
        part: np.array([i for i, u in enumerate(units) if parts[u.key] == part], dtype=np.int64)
        for part in PARTS
    }


def is_held_out(site: Site, experiment: Experiment) -> bool:
    """Whether the experiment holds a site out: the site tests on all its patients, and takes part
    neither in training nor in validation."""
    return site.name in experiment.evaluation.held_out


def describe_division(site: Site, experiment: Experiment) -> str | None:
    """A sentence that explains the division of a held-out site or of a cross-validation; None for
    an ordinary split."""
    evaluation = experiment.evaluation
    if is_held_out(site, experiment):
        return "The experiment holds this site out: all its patients are for testing"
    if not evaluation.folds:
        return None
    folds, repeats = evaluation.folds, evaluation.repeats
    times = "once" if repeats == 1 else f"once in each of {repeats} repeats"
    return (
        f"Cross-validation, each patient is tested {times}: these are the parts of training "
        f"{evaluation.fold_number + 1} of {folds * repeats} (fold_number = "
        f"{evaluation.fold_number})"
    )


class _DivisionFile:
    """`splits/PLAN.json` of a site. SiteProblem("cohort") if it cannot be read or written."""

    def __init__(self, site: Site, experiment: Experiment, *, record: bool) -> None:
        self.plan = _plan(experiment)
        digest = sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()
        self.path = site.state / "splits" / f"{digest}.json"
        self._earlier_path = self.path.with_name(f"{digest[:12]}.json")
        self._salt = Pseudonyms.of_site(site).fingerprint
        self._key = PatientDraw.of_site(site).fingerprint
        self._record = record

    @contextmanager
    def content(self, kind: type[_Content[Assignment]]) -> Iterator[_Content[Assignment]]:
        """The content, to be changed: stored when the block ends, unless `record` is false. The
        file is locked until then. `kind`: class of the content."""
        file = JsonFile(self.path, kind)
        try:
            if not self._record:
                yield self._checked(file.read() or self._first(kind))
                return
            make_folder(self.path.parent)
            with file.changed(partial(self._first, kind)) as content:
                yield self._checked(content)
                content.patients = dict(sorted(content.patients.items()))
            self._remove_earlier(kind)
        except UnreadableFileError as error:
            raise SiteProblem(
                "cohort",
                f"{error}; restore it from a backup, or delete it to divide all patients anew",
            ) from error
        except OSError as error:
            raise SiteProblem(
                "cohort", f"{self.path}: cannot be written ({error.strerror})"
            ) from error

    def _first(self, kind: type[_Content[Assignment]]) -> _Content[Assignment]:
        """The content before there is a file of this name: that of an earlier version, whose names
        were shorter, if it is of the same plan; else nobody is assigned."""
        return self._earlier(kind) or kind(
            plan=self.plan, salt=self._salt, key=self._key, patients={}
        )

    def _earlier(self, kind: type[_Content[Assignment]]) -> _Content[Assignment] | None:
        earlier = JsonFile(self._earlier_path, kind).read()
        return earlier if earlier and earlier.plan == self.plan else None

    def _remove_earlier(self, kind: type[_Content[Assignment]]) -> None:
        if self._earlier(kind) is not None:
            self._earlier_path.unlink()

    def _checked(self, content: _Content[Assignment]) -> _Content[Assignment]:
        for what, stored, now in (
            ("salt or patient_numbers of site.toml", content.salt, self._salt),
            ("split.key", content.key or self._key, self._key),
        ):
            if stored != now:
                raise SiteProblem(
                    "cohort",
                    f"{self.path}: was made with another {what} than now, so its patients cannot "
                    f"be recognised or new ones divided alike; restore {what} from a backup of the "
                    "state folder, or delete this file to divide all patients anew",
                )
        content.key = self._key
        return content


def _plan(experiment: Experiment) -> dict[str, JsonValue]:
    """The settings that decide the division. With one more setting here, every site would get a
    new file and divide its patients anew."""
    evaluation = experiment.evaluation
    division_settings = (
        {"folds", "repeats"} if evaluation.folds else {"test", "validation", "test_after"}
    )
    return {
        **experiment.model_dump(mode="json", include={"outcomes", "unit", "seed"}),
        **evaluation.model_dump(mode="json", include={"index_image", *division_settings}),
    }


def _by_share(
    file: _DivisionFile, experiment: Experiment, patients: Sequence[Patient]
) -> dict[str, SplitPart]:
    """The part of each patient, by the experiment's shares, a column or a date."""
    with file.content(_Content[SplitPart]) as content:
        for patient in patients:
            stored = content.patients.get(patient.key)
            if stored and patient.part and stored != patient.part:
                raise SiteProblem(
                    "cohort",
                    f"{patient.name}: its patient is on the {stored} side in {file.path}, and "
                    f"on the {patient.part} side by the cohort table. No patient changes sides: "
                    "correct the table, or delete the file to divide all patients anew",
                )
        parts = assign_parts(patients, experiment.evaluation, experiment.seed, content.patients)
        content.patients |= parts
    return parts


def _by_fold(
    file: _DivisionFile, experiment: Experiment, patients: Sequence[Patient], fold: int
) -> dict[str, SplitPart]:
    """The part of each patient in one training of a cross-validation: the patients of the fold are
    tested, a share of the others validates."""
    evaluation, seed = experiment.evaluation, experiment.seed
    if any(patient.part for patient in patients):
        raise SiteProblem(
            "cohort",
            "the cohort table divides its patients itself (column split), and the "
            "experiment tests each of them in a fold: empty the column",
        )
    with file.content(_Content[tuple[int, ...]]) as content:
        earlier = content.patients
        for folds in earlier.values():
            if len(folds) != evaluation.repeats or not set(folds) <= set(range(evaluation.folds)):
                raise UnreadableFileError(f"{file.path}: has not one fold for each repeat")
        try:
            drawn = [
                assign_folds(
                    patients,
                    evaluation.folds,
                    seed + repeat,
                    {key: folds[repeat] for key, folds in earlier.items()},
                )
                for repeat in range(evaluation.repeats)
            ]
        except ValueError as error:
            raise SiteProblem("cohort", str(error)) from error
        content.patients |= {p.key: tuple(folds[p.key] for folds in drawn) for p in patients}
        repeat, number = divmod(fold, evaluation.folds)
        tested = {p.key for p in patients if drawn[repeat][p.key] == number}
        others = [patient for patient in patients if patient.key not in tested]
        no_test = evaluation.model_copy(update={"test": 0.0})
        parts = assign_parts(others, no_test, seed + fold, content.others.get(fold, {}))
        content.others[fold] = dict(sorted((content.others.get(fold, {}) | parts).items()))
    return parts | dict.fromkeys(tested, "test")
