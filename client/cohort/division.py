"""Divides a site's patients into training, validation and test: the only place that does so."""

import json
from collections.abc import Callable, Mapping, Sequence
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

from .assignment import PARTS, Patient, assign_folds, assign_parts, patients_of
from .patients import Pseudonyms
from .units import Unit

Division: TypeAlias = dict[SplitPart, NDArray[np.int64]]
"""Part -> rows of a list of units; each row is in exactly one part."""

Assignment = TypeVar("Assignment", SplitPart, tuple[int, ...])
"""The part of a patient, or the test fold in each repeat of a cross-validation."""


class _Content(BaseModel, Generic[Assignment]):
    """Content of a division file.

    `plan`: the settings that decide the division. `salt`: fingerprint of the salt of the
    pseudonyms. `patients`: pseudonym -> assignment.
    """

    format: Literal[1] = 1
    plan: dict[str, JsonValue]
    salt: str
    patients: dict[str, Assignment]


def divide(
    site: Site, experiment: Experiment, units: Sequence[Unit], fold: int, *, record: bool = True
) -> Division:
    """Divide the patients of a site; all images of a patient go into the same part.

    The division is stored in `splits/PLAN.json` in the site's state folder, where PLAN is a digest
    of the settings that decide it: experiments with the same plan have the same division. A patient
    in the file never changes to another part, even if the patient is missing from the table for a
    time. Delete the file to divide all patients anew; figures on test patients may then include
    patients that earlier models were trained on. One process at a time reads, draws and writes.

    In a cross-validation the file holds the fold that tests each patient. The validation patients
    of a fold are drawn from the other patients at each call. New patients can therefore change who
    validates, but never who is tested. A held-out site tests on all its patients and has no file.

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
        digest = sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()[:12]
        self.path = site.state / "splits" / f"{digest}.json"
        self._salt = Pseudonyms.load_or_create(site.state).fingerprint
        self._record = record

    def assign(
        self,
        kind: type[_Content[Assignment]],
        draw: Callable[[Mapping[str, Assignment]], dict[str, Assignment]],
    ) -> dict[str, Assignment]:
        """Assign the patients, and store new assignments unless `record` is false.

        Parameters
        ----------
        kind
            Class of the file's content.
        draw
            Takes the stored assignments and returns the assignment of every patient. The file is
            locked while it runs, unless `record` is false.
        """
        file = JsonFile(self.path, kind)
        empty = partial(kind, plan=self.plan, salt=self._salt, patients={})
        try:
            if not self._record:
                return draw(self._stored(file.read() or empty()))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with file.changed(empty) as content:
                drawn = draw(self._stored(content))
                content.patients = dict(sorted((content.patients | drawn).items()))
            return drawn
        except UnreadableFileError as error:
            raise SiteProblem(
                "cohort",
                f"{error}; restore it from a backup, or delete it to divide all patients anew",
            ) from error
        except OSError as error:
            raise SiteProblem(
                "cohort", f"{self.path}: cannot be written ({error.strerror})"
            ) from error

    def _stored(self, content: _Content[Assignment]) -> dict[str, Assignment]:
        if content.salt != self._salt:
            raise SiteProblem(
                "cohort",
                f"{self.path}: was made with another salt than the one in the state "
                "folder, so its patients cannot be recognised; restore the salt, or delete this "
                "file to divide all patients anew",
            )
        return content.patients


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

    def draw(earlier: Mapping[str, SplitPart]) -> dict[str, SplitPart]:
        for patient in patients:
            stored = earlier.get(patient.key)
            if stored and patient.part and stored != patient.part:
                raise SiteProblem(
                    "cohort",
                    f"{patient.name}: its patient is on the {stored} side in {file.path}, and "
                    f"on the {patient.part} side by the cohort table. No patient changes sides: "
                    "correct the table, or delete the file to divide all patients anew",
                )
        return assign_parts(patients, experiment.evaluation, experiment.seed, earlier)

    return file.assign(_Content[SplitPart], draw)


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

    def draw(earlier: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
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
        return {p.key: tuple(folds[p.key] for folds in drawn) for p in patients}

    tested_in = file.assign(_Content[tuple[int, ...]], draw)
    repeat, number = divmod(fold, evaluation.folds)
    tested = {key for key, folds in tested_in.items() if folds[repeat] == number}
    others = [patient for patient in patients if patient.key not in tested]
    no_test = evaluation.model_copy(update={"test": 0.0})
    parts = assign_parts(others, no_test, seed + fold, {})
    return parts | dict.fromkeys(tested, "test")
