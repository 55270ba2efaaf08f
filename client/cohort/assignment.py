"""Assigns patients to parts or folds: pure functions of the patients, the settings and a seed.

Nothing here reads or writes a file; `division` stores the assignments.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import isnan

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import EvaluationSettings
from fedrad.exchange.figures import SplitPart

from .units import Unit

PARTS: tuple[SplitPart, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Patient:
    """The attributes of a patient that decide the assignment.

    Attributes
    ----------
    key
        Pseudonym.
    name
        File of the patient's first unit, for messages at the site.
    stratum
        The outcomes; an outcome is positive if any of the patient's units is positive.
    draw
        Digest of the patient's number, which orders the patients of a stratum.
    part
        Part that the cohort table or a date gives, if any.
    """

    key: str
    name: str
    stratum: str
    draw: str
    part: SplitPart | None


def patients_of(units: Sequence[Unit], settings: EvaluationSettings) -> list[Patient]:
    """The patients of some units, in the order of their first unit.

    Raises SiteProblem if the `split` column gives a patient two parts, if both the column and a
    date divide the patients, or if a unit lacks the date that the experiment divides by.
    """
    by_key: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        by_key[unit.key].append(unit)
    return [
        Patient(
            key, of_key[0].name, _stratum(of_key), of_key[0].draw, _given_part(of_key, settings)
        )
        for key, of_key in by_key.items()
    ]


def assign_parts(
    patients: Sequence[Patient],
    settings: EvaluationSettings,
    seed: int,
    earlier: Mapping[str, SplitPart],
) -> dict[str, SplitPart]:
    """Assign every patient to a part, stratified by outcome.

    New patients are ordered, within their stratum, by a digest of seed and patient, so that neither
    the order of the table nor the patients of another site matter. They fill the parts that lack
    patients of their stratum, the test part first.

    Parameters
    ----------
    patients
        All patients of the site, each once.
    settings
        Shares of test and validation. With `test_after` the date alone decides who is tested, and
        the validation share is a share of the other patients.
    seed
        Seed of the draw.
    earlier
        Pseudonym -> part of the patients who were assigned before; their part does not change.

    Returns
    -------
    dict[str, Part]
        Pseudonym -> part, for each of `patients`.
    """
    parts: dict[str, SplitPart] = {}
    for stratum in _strata(patients).values():
        for patient in stratum:
            if part := earlier.get(patient.key) or patient.part:
                parts[patient.key] = part
        by_date = settings.test_after is not None
        drawn_from = [p for p in stratum if not by_date or parts.get(p.key) != "test"]
        quota = {
            "test": 0 if by_date else round(len(drawn_from) * settings.test),
            "validation": round(len(drawn_from) * settings.validation),
        }
        assigned = Counter(parts[p.key] for p in drawn_from if p.key in parts)
        new = _in_order([p for p in stratum if p.key not in parts], seed)
        test = max(0, quota["test"] - assigned["test"])
        validation = max(0, quota["validation"] - assigned["validation"])
        for place, patient in enumerate(new):
            parts[patient.key] = (
                "test" if place < test else "validation" if place < test + validation else "train"
            )
    return parts


def assign_folds(
    patients: Sequence[Patient], folds: int, seed: int, earlier: Mapping[str, int]
) -> dict[str, int]:
    """Assign every patient to the fold that tests the patient, stratified by outcome.

    Each stratum is spread evenly, as by scikit-learn's StratifiedKFold, which cannot add patients
    later. Here a new patient goes to the fold with the fewest patients of the stratum, and among
    several such folds to the smallest.

    Parameters
    ----------
    patients
        All patients of the site, each once.
    folds
        Number of folds.
    seed
        Seed of the draw.
    earlier
        Pseudonym -> fold of the patients who were assigned before; their fold does not change.

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
    fold_of = {p.key: earlier[p.key] for p in patients if p.key in earlier}
    sizes = Counter(fold_of.values())
    for stratum in _strata(patients).values():
        assigned = Counter(fold_of[p.key] for p in stratum if p.key in fold_of)
        for patient in _in_order([p for p in stratum if p.key not in fold_of], seed):
            fold = min(range(folds), key=lambda f: (assigned[f], sizes[f], f))
            fold_of[patient.key] = fold
            assigned[fold] += 1
            sizes[fold] += 1
    return fold_of


def _stratum(units: Sequence[Unit]) -> str:
    by_outcome = zip(*(unit.labels for unit in units), strict=True)
    known = [[value for value in values if not isnan(value)] for values in by_outcome]
    return str(tuple(max(values) if values else float("nan") for values in known))


def _given_part(units: Sequence[Unit], settings: EvaluationSettings) -> SplitPart | None:
    column_parts = {unit.part for unit in units if unit.part is not None}
    first = units[0].name
    if len(column_parts) > 1:
        raise SiteProblem(
            "cohort",
            f"the patient of {first} stands on two sides of the split column: "
            f"{', '.join(sorted(column_parts))}",
        )
    if settings.test_after is None:
        return column_parts.pop() if column_parts else None
    if column_parts:
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
