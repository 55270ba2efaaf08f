"""Which patients train, validate and test: the only place that divides them."""

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
from fedrad.exchange.figures import Part
from fedrad.system.files import JsonFile, UnreadableFileError

from .assignment import PARTS, Patient, assign_folds, assign_parts, patients_of
from .patients import Pseudonyms
from .units import Unit

Division: TypeAlias = dict[Part, NDArray[np.int64]]
"""Part -> rows of a list of units; each row is in exactly one part."""

Side = TypeVar("Side", Part, tuple[int, ...])
"""What a file says of a patient: the part, or the fold of each repeat of a cross-validation."""


class _Content(BaseModel, Generic[Side]):
    """A file of divided patients. `plan`: the settings that decide the sides. `salt`: fingerprint
    of the salt of the pseudonyms. `patients`: pseudonym -> side."""

    format: Literal[1] = 1
    plan: dict[str, JsonValue]
    salt: str
    patients: dict[str, Side]


def divide(
    site: Site, experiment: Experiment, units: Sequence[Unit], fold: int, *, record: bool = True
) -> Division:
    """Divide the patients of a site, all images of a patient into the same part.

    The sides are kept in `splits/PLAN.json` of the site's state folder, where PLAN is a digest of
    the settings that decide them: experiments with the same plan have the same division. A patient
    in the file keeps the side for ever, also while the table does not have the patient. Delete
    the file to divide anew; figures on test patients then no longer speak of patients that no
    earlier model has seen. One process at a time reads, draws and writes.

    In a cross-validation the file holds the fold that tests a patient. The validation patients of a
    fold are drawn from all others at each call, so there more patients can change who validates,
    never who is tested. A site that the experiment holds out tests on all its patients and has no
    file.

    Parameters
    ----------
    site
        The site, whose state folder has the file.
    experiment
        The experiment: outcomes, unit, seed and `[evaluation]` decide the division.
    units
        The n units of the site's cohort.
    fold
        Which of the folds · repeats trainings of a cross-validation, from 0. Without folds there
        is one division, and this has no meaning.
    record
        Whether patients who are new are added to the file. A look at the cohort does not: it shows
        what a training that starts now would use, and fixes nobody's side before the table is in
        order.

    Returns
    -------
    Division
        Rows of `units` of each part, ascending; together 0 to n - 1.

    Raises
    ------
    SiteProblem
        Where the file is damaged, was made with another salt, contradicts the table or cannot be
        written; where the table divides patients that the experiment divides; where there are fewer
        patients than folds.
    """
    if is_held_out(site, experiment):
        sides: dict[str, Part] = {unit.key: "test" for unit in units}
    else:
        patients = patients_of(units, experiment.evaluation)
        file = _DivisionFile(site, experiment, record=record)
        if experiment.evaluation.folds:
            sides = _by_fold(file, experiment, patients, fold)
        else:
            sides = _by_share(file, experiment, patients)
    return {
        part: np.array([i for i, u in enumerate(units) if sides[u.key] == part], dtype=np.int64)
        for part in PARTS
    }


def is_held_out(site: Site, experiment: Experiment) -> bool:
    """Whether all patients of a site are for testing: it takes no part in training or choices."""
    return site.name in experiment.evaluation.held_out


def describe(site: Site, experiment: Experiment) -> str | None:
    """A sentence on a division that is not one split of the site's patients into three parts;
    None where it is."""
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
    """`splits/PLAN.json` of a site. Errors of reading and writing are SiteProblem("cohort")."""

    def __init__(self, site: Site, experiment: Experiment, *, record: bool) -> None:
        self.plan = _plan(experiment)
        digest = sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()[:12]
        self.path = site.state / "splits" / f"{digest}.json"
        self._salt = Pseudonyms.kept(site.state).fingerprint
        self._record = record

    def sides(
        self,
        kind: type[_Content[Side]],
        draw: Callable[[Mapping[str, Side]], dict[str, Side]],
    ) -> dict[str, Side]:
        """The sides that `draw` gives, called with those in the file, and, if this is a record,
        added to it before another process reads it."""
        file = JsonFile(self.path, kind)
        empty = partial(kind, plan=self.plan, salt=self._salt, patients={})
        try:
            if not self._record:
                return draw(self._known(file.read() or empty()))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with file.changed(empty) as content:
                drawn = draw(self._known(content))
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

    def _known(self, content: _Content[Side]) -> dict[str, Side]:
        if content.salt != self._salt:
            raise SiteProblem(
                "cohort",
                f"{self.path}: was made with another salt than the one in the state "
                "folder, so its patients cannot be recognised; restore the salt, or delete this "
                "file to divide all patients anew",
            )
        return content.patients


def _plan(experiment: Experiment) -> dict[str, JsonValue]:
    """What decides the sides. Another setting here would give every site another file."""
    evaluation = experiment.evaluation
    who_tests = {"folds", "repeats"} if evaluation.folds else {"test", "validation", "test_after"}
    return {
        **experiment.model_dump(mode="json", include={"outcomes", "unit", "seed"}),
        **evaluation.model_dump(mode="json", include={"index_image", *who_tests}),
    }


def _by_share(
    file: _DivisionFile, experiment: Experiment, patients: Sequence[Patient]
) -> dict[str, Part]:
    """One division for the whole experiment: shares, or the table's column, or a date."""

    def draw(earlier: Mapping[str, Part]) -> dict[str, Part]:
        for patient in patients:
            side = earlier.get(patient.key)
            if side and patient.part and side != patient.part:
                raise SiteProblem(
                    "cohort",
                    f"{patient.name}: its patient is on the {side} side in {file.path}, and "
                    f"on the {patient.part} side by the cohort table. No patient changes sides: "
                    "correct the table, or delete the file to divide all patients anew",
                )
        return assign_parts(patients, experiment.evaluation, experiment.seed, earlier)

    return file.sides(_Content[Part], draw)


def _by_fold(
    file: _DivisionFile, experiment: Experiment, patients: Sequence[Patient], fold: int
) -> dict[str, Part]:
    """One training of a cross-validation: the patients of its fold are for testing, a share of the
    others for validation."""
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

    tested_in = file.sides(_Content[tuple[int, ...]], draw)
    repeat, number = divmod(fold, evaluation.folds)
    tested = {key for key, folds in tested_in.items() if folds[repeat] == number}
    others = [patient for patient in patients if patient.key not in tested]
    nobody_else = evaluation.model_copy(update={"test": 0.0})
    sides = assign_parts(others, nobody_else, seed + fold, {})
    return sides | dict.fromkeys(tested, "test")
