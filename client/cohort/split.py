"""Which patients train, validate and test: decided once, kept in a file, never changed."""

import fcntl
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from math import isnan
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import EvaluationSettings, Experiment
from fedrad.exchange.figures import Part

from .units import Unit

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Patient:
    """A patient as the split sees them.

    `stratum`: their outcomes, positive where any of their units is. `draw`: place in the lot.
    `part`: side that the table or a date gives.
    """

    key: str
    stratum: str
    draw: str
    part: Part | None


def split(
    units: Sequence[Unit],
    settings: EvaluationSettings,
    seed: int,
    kept: Mapping[str, Part] | None = None,
) -> dict[Part, NDArray[np.int64]]:
    """Rows of each part: by patient, stratified by the outcomes, the same at every call.

    Within a stratum new patients are ordered by a digest of the seed and their number, so neither
    the order of the table nor another site's patients matter; they fill the parts that are short
    of their stratum, test first. Patients in `kept` stay where they are.
    """
    sides = assign_parts(patients(units, settings), settings, seed, kept or {})
    return {
        part: np.array([i for i, u in enumerate(units) if sides[u.key] == part], dtype=np.int64)
        for part in PARTS
    }


def assign_parts(
    patients: Sequence[Patient],
    settings: EvaluationSettings,
    seed: int,
    kept: Mapping[str, Part],
) -> dict[str, Part]:
    """A part for every patient. Where sides are given (by a column or a date) they hold; with a
    date nobody else is for testing, and the validation share is one of the others."""
    sides: dict[str, Part] = {}
    for stratum in _strata(patients).values():
        for patient in stratum:
            if side := kept.get(patient.key) or patient.part:
                sides[patient.key] = side
        by_date = settings.test_after is not None
        at_hand = [p for p in stratum if not by_date or sides.get(p.key) != "test"]
        quota = {
            "test": 0 if by_date else round(len(at_hand) * settings.test),
            "validation": round(len(at_hand) * settings.validation),
        }
        held = Counter(sides[p.key] for p in at_hand if p.key in sides)
        new = _drawn([p for p in stratum if p.key not in sides], seed)
        test = max(0, quota["test"] - held["test"])
        validation = max(0, quota["validation"] - held["validation"])
        for place, patient in enumerate(new):
            sides[patient.key] = (
                "test" if place < test else "validation" if place < test + validation else "train"
            )
    return sides


def assign_folds(
    patients: Sequence[Patient], folds: int, seed: int, kept: Mapping[str, int]
) -> dict[str, int]:
    """A fold (0 to folds - 1) for every patient, each stratum spread evenly as by scikit-learn's
    StratifiedKFold, which cannot grow: new patients go to the fold that is shortest of their
    stratum, between equals to the smallest fold. Raises ValueError for fewer than 2 folds or
    fewer patients than folds."""
    if folds < 2 or len(patients) < folds:
        raise ValueError(f"{len(patients)} patients cannot be divided into {folds} folds")
    sides = {p.key: kept[p.key] for p in patients if p.key in kept}
    sizes = Counter(sides.values())
    for stratum in _strata(patients).values():
        held = Counter(sides[p.key] for p in stratum if p.key in sides)
        for patient in _drawn([p for p in stratum if p.key not in sides], seed):
            fold = min(range(folds), key=lambda f: (held[f], sizes[f], f))
            sides[patient.key] = fold
            held[fold] += 1
            sizes[fold] += 1
    return sides


def patients(units: Sequence[Unit], settings: EvaluationSettings) -> list[Patient]:
    """The patients of some units. Raises SiteProblem where a patient stands on two sides of a
    `split` column, or column and date both divide, or an image has no date to divide by."""
    by_key: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        by_key[unit.key].append(unit)
    return [
        Patient(key, _stratum(own), own[0].draw, _given_part(own, settings))
        for key, own in by_key.items()
    ]


def _stratum(units: Sequence[Unit]) -> str:
    labels = zip(*(unit.labels for unit in units), strict=True)
    known = [[value for value in values if not isnan(value)] for values in labels]
    return str(tuple(max(values) if values else float("nan") for values in known))


def _given_part(units: Sequence[Unit], settings: EvaluationSettings) -> Part | None:
    named = {unit.part for unit in units if unit.part is not None}
    first = units[0].name
    if len(named) > 1:
        raise SiteProblem(
            "cohort",
            f"the patient of {first} stands on two sides of the split column: "
            f"{', '.join(sorted(named))}",
        )
    if settings.test_after is None:
        return named.pop() if named else None
    if named:
        raise SiteProblem(
            "cohort",
            "the experiment splits by date (evaluation.test_after) and the cohort table "
            "has a split column: name another column as `split` in site.toml, or empty it",
        )
    undated = [unit.name for unit in units if unit.day is None]
    if undated:
        raise SiteProblem(
            "cohort",
            f"{undated[0]}: has no date in the column `date`, and the experiment splits "
            "by date (evaluation.test_after)",
        )
    later = any(unit.day > settings.test_after for unit in units if unit.day)
    return "test" if later else None


def _strata(patients: Sequence[Patient]) -> dict[str, list[Patient]]:
    strata: dict[str, list[Patient]] = defaultdict(list)
    for patient in patients:
        strata[patient.stratum].append(patient)
    return dict(sorted(strata.items()))


def _drawn(patients: Sequence[Patient], seed: int) -> list[Patient]:
    return sorted(patients, key=lambda p: (sha256(f"{seed}:{p.draw}".encode()).digest(), p.key))


class SplitFile:
    """`splits/PLAN.json` in the site's state folder: pseudonym -> part, for one plan.

    A plan is what decides the sides: outcomes, unit, seed, test and validation shares, date and
    index rule. A patient in the file keeps their side for ever, also while they are not in the
    table. Delete the file to divide anew; figures on test patients then no longer speak of
    patients that no earlier model has seen.
    """

    def __init__(self, state: Path, experiment: Experiment, fingerprint: str) -> None:
        evaluation = experiment.evaluation
        self.experiment = experiment
        self.plan = {
            "outcomes": experiment.outcomes,
            "unit": experiment.unit,
            "seed": experiment.seed,
            **evaluation.model_dump(
                mode="json", include={"test", "validation", "test_after", "index_image"}
            ),
        }
        self.fingerprint = fingerprint
        digest = sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()[:12]
        self.path = state / "splits" / f"{digest}.json"

    def divide(self, units: Sequence[Unit]) -> dict[Part, NDArray[np.int64]]:
        """Rows of each part; patients that are new are added to the file, which one process at a
        time does. Raises SiteProblem where the file is damaged, was made with another salt,
        contradicts the table, or cannot be written."""
        with self._alone():
            return self._divide(units)

    def _divide(self, units: Sequence[Unit]) -> dict[Part, NDArray[np.int64]]:
        evaluation, seed = self.experiment.evaluation, self.experiment.seed
        kept = self.read()
        for patient, unit in zip(patients(units, evaluation), _first(units), strict=True):
            side = kept.get(patient.key)
            if side and patient.part and side != patient.part:
                raise SiteProblem(
                    "cohort",
                    f"{unit.name}: its patient is on the {side} side in {self.path}, and "
                    f"on the {patient.part} side by the cohort table. No patient changes sides: "
                    "correct the table, or delete the file to divide all patients anew",
                )
        rows = split(units, evaluation, seed, kept)
        sides = dict(kept)
        for part, members in rows.items():
            sides |= {units[row].key: part for row in members}
        if sides != kept:
            self._write(sides)
        return rows

    def read(self) -> dict[str, Part]:
        """Pseudonym -> part; empty where there is no file yet."""
        if not self.path.is_file():
            return {}
        try:
            content = json.loads(self.path.read_text("utf-8"))
            sides: dict[str, Part] = content["patients"]
            salt = content["salt"]
            if not set(sides.values()) <= set(get_args(Part)):
                raise ValueError("unknown part")
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise SiteProblem(
                "cohort",
                f"{self.path}: is damaged ({error}); restore it from a backup, or delete "
                "it to divide all patients anew",
            ) from error
        if salt != self.fingerprint:
            raise SiteProblem(
                "cohort",
                f"{self.path}: was made with another salt than the one in the state "
                "folder, so its patients cannot be recognised; restore the salt, or delete this "
                "file to divide all patients anew",
            )
        return sides

    def _write(self, sides: Mapping[str, Part]) -> None:
        content = {
            "format": 1,
            "plan": self.plan,
            "salt": self.fingerprint,
            "patients": dict(sorted(sides.items())),
        }
        temporary = self.path.with_suffix(f".{os.getpid()}")
        try:
            temporary.write_text(json.dumps(content, indent=0), "utf-8")
            temporary.replace(self.path)
        except OSError as error:
            raise self._unwritable(error) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A lock on the folder. The system takes it from a process that ends, however it ends."""
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _unwritable(self, error: OSError) -> SiteProblem:
        return SiteProblem("cohort", f"{self.path}: cannot be written ({error.strerror})")


def _first(units: Sequence[Unit]) -> list[Unit]:
    """The first unit of each patient, in the order of `patients`."""
    first: dict[str, Unit] = {}
    for unit in units:
        first.setdefault(unit.key, unit)
    return list(first.values())
