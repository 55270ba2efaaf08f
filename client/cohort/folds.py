"""Which fold tests a patient: decided once for all folds, kept in a file, never changed."""

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import Part

from .split import PARTS, assign_folds, assign_parts, patients
from .units import Unit


class Folds:
    """`splits/PLAN.json` in the site's state folder: pseudonym -> fold of each repeat.

    A plan is what decides them: outcomes, unit, seed, index rule, number of folds and repeats.
    """

    def __init__(self, state: Path, experiment: Experiment, fingerprint: str) -> None:
        self.experiment = experiment
        evaluation = experiment.evaluation
        self.plan = {
            "outcomes": experiment.outcomes,
            "unit": experiment.unit,
            "seed": experiment.seed,
            **evaluation.model_dump(mode="json", include={"folds", "repeats", "index_image"}),
        }
        self.fingerprint = fingerprint
        digest = sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()[:12]
        self.path = state / "splits" / f"{digest}.json"

    def divide(self, units: Sequence[Unit], fold: int) -> dict[Part, NDArray[np.int64]]:
        """Rows of each part for one of the folds · repeats trainings: the fold's patients are for
        testing, a share of the others for validation. Patients that are new are added to the file.

        Raises SiteProblem where the file is damaged or of another salt, the table divides the
        patients itself, or there are fewer patients than folds.
        """
        evaluation = self.experiment.evaluation
        everybody = patients(units, evaluation)
        if any(patient.part for patient in everybody):
            raise SiteProblem(
                "cohort",
                "the cohort table divides its patients itself (column split), and the "
                "experiment tests each of them in a fold: empty the column",
            )
        kept = self._read()
        found: dict[str, list[int]] = {patient.key: [] for patient in everybody}
        for repeat in range(evaluation.repeats):
            known = {key: folds[repeat] for key, folds in kept.items()}
            try:
                folds = assign_folds(
                    everybody, evaluation.folds, self.experiment.seed + repeat, known
                )
            except ValueError as error:
                raise SiteProblem("cohort", str(error)) from error
            for key, number in folds.items():
                found[key].append(number)
        if kept | found != kept:
            self._write(kept | found)
        repeat, number = divmod(fold, evaluation.folds)
        tested = {key for key, folds in found.items() if folds[repeat] == number}
        others = [patient for patient in everybody if patient.key not in tested]
        nobody_else = evaluation.model_copy(update={"test": 0.0})
        sides = assign_parts(others, nobody_else, self.experiment.seed + fold, {})
        sides |= dict.fromkeys(tested, "test")
        return {
            part: np.array([i for i, u in enumerate(units) if sides[u.key] == part], dtype=np.int64)
            for part in PARTS
        }

    def _read(self) -> dict[str, list[int]]:
        if not self.path.is_file():
            return {}
        try:
            content = json.loads(self.path.read_text("utf-8"))
            folds: dict[str, list[int]] = content["patients"]
            if content["salt"] != self.fingerprint:
                raise ValueError("it was made with another salt")
            if {len(f) for f in folds.values()} != {self.experiment.evaluation.repeats}:
                raise ValueError("not one fold for each repeat")
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise SiteProblem(
                "cohort",
                f"{self.path}: cannot be used ({error}); restore it from a backup, or "
                "delete it to divide all patients anew",
            ) from error
        return folds

    def _write(self, folds: dict[str, list[int]]) -> None:
        content = {
            "format": 1,
            "plan": self.plan,
            "salt": self.fingerprint,
            "patients": dict(sorted(folds.items())),
        }
        temporary = self.path.with_suffix(f".{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content, indent=0), "utf-8")
            temporary.replace(self.path)
        except OSError as error:
            raise SiteProblem(
                "cohort", f"{self.path}: cannot be written ({error.strerror})"
            ) from error
