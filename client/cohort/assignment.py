"""Which side a patient is drawn to: pure functions of the patients, the settings and a seed.

Nothing here reads or writes a file; `division` keeps what was drawn.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import isnan

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import EvaluationSettings
from fedrad.exchange.figures import Part

from .units import Unit

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Patient:
    """What the division looks at in a patient.

    `key`: pseudonym. `name`: file of the patient's first unit, for messages at the site. `stratum`:
    the outcomes, each positive where any of the patient's units is. `draw`: digest of the patient's
    number, which orders the patients of a stratum. `part`: side that the cohort table or a date
    gives, if any.
    """

    key: str
    name: str
    stratum: str
    draw: str
    part: Part | None


def patients_of(units: Sequence[Unit], settings: EvaluationSettings) -> list[Patient]:
    """The patients of some units, in the order of their first unit.

    Raises SiteProblem where a patient stands on two sides of a `split` column, where both column
    and date divide, or where an image has no date to divide by.
    """
    by_key: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        by_key[unit.key].append(unit)
    return [
        Patient(key, own[0].name, _stratum(own), own[0].draw, _given_part(own, settings))
        for key, own in by_key.items()
    ]


def assign_parts(
    patients: Sequence[Patient],
    settings: EvaluationSettings,
    seed: int,
    earlier: Mapping[str, Part],
) -> dict[str, Part]:
    """Assign every patient to a part, stratified by outcome.

    Patients who are new are ordered, within their stratum, by a digest of seed and patient, so that
    neither the order of the table nor another site's patients matter. They fill the parts that
    are short of their stratum, test first.

    Parameters
    ----------
    patients
        All patients of the site, each once.
    settings
        Shares of test and validation. With `test_after` the date gives the test patients: nobody
        else is drawn for testing, and the validation share is one of the others.
    seed
        Seed of the draw.
    earlier
        Pseudonym -> part of those who were assigned before; they stay where they are.

    Returns
    -------
    dict[str, Part]
        Pseudonym -> part, for each of `patients`.
    """
    sides: dict[str, Part] = {}
    for stratum in _strata(patients).values():
        for patient in stratum:
            if side := earlier.get(patient.key) or patient.part:
                sides[patient.key] = side
        by_date = settings.test_after is not None
        drawn_from = [p for p in stratum if not by_date or sides.get(p.key) != "test"]
        quota = {
            "test": 0 if by_date else round(len(drawn_from) * settings.test),
            "validation": round(len(drawn_from) * settings.validation),
        }
        held = Counter(sides[p.key] for p in drawn_from if p.key in sides)
        new = _in_order([p for p in stratum if p.key not in sides], seed)
        test = max(0, quota["test"] - held["test"])
        validation = max(0, quota["validation"] - held["validation"])
        for place, patient in enumerate(new):
            sides[patient.key] = (
                "test" if place < test else "validation" if place < test + validation else "train"
            )
    return sides


def assign_folds(
    patients: Sequence[Patient], folds: int, seed: int, earlier: Mapping[str, int]
) -> dict[str, int]:
    """Assign every patient to the fold that tests the patient, stratified by outcome.

    Each stratum is spread evenly, as by scikit-learn's StratifiedKFold, which cannot grow: here
    patients who are new go to the fold that is shortest of their stratum, between equals to the
    smallest fold.

    Parameters
    ----------
    patients
        All patients of the site, each once.
    folds
        Number of folds.
    seed
        Seed of the draw.
    earlier
        Pseudonym -> fold of those who were assigned before; they stay where they are.

    Returns
    -------
    dict[str, int]
        Pseudonym -> fold, 0 to `folds` - 1, for each of `patients`.

    Raises
    ------
    ValueError
        For fewer than 2 folds, or fewer patients than folds.
    """
    if folds < 2 or len(patients) < folds:
        raise ValueError(f"{len(patients)} patients cannot be divided into {folds} folds")
    sides = {p.key: earlier[p.key] for p in patients if p.key in earlier}
    sizes = Counter(sides.values())
    for stratum in _strata(patients).values():
        held = Counter(sides[p.key] for p in stratum if p.key in sides)
        for patient in _in_order([p for p in stratum if p.key not in sides], seed):
            fold = min(range(folds), key=lambda f: (held[f], sizes[f], f))
            sides[patient.key] = fold
            held[fold] += 1
            sizes[fold] += 1
    return sides


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


def _in_order(patients: Sequence[Patient], seed: int) -> list[Patient]:
    return sorted(patients, key=lambda p: (sha256(f"{seed}:{p.draw}".encode()).digest(), p.key))
