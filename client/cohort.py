"""From the cohort table to units: one patient, one image, outcomes, and a part of the split."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.experiment import EvaluationSettings, Experiment
from fedrad.exchange.messages import Part

from .problems import SiteProblem
from .settings import ORDER_COLUMNS, Site

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Unit:
    """A patient with the image that stands for them.

    `key` is a digest of the patient's number, the only thing kept of it. `labels` are 0, 1 or
    NaN, in the order of the experiment's outcomes.
    """

    key: str
    file: Path
    labels: tuple[float, ...]


@dataclass(frozen=True)
class Cohort:
    """A site's units, and what could not become one (file as in the table -> reason)."""

    units: list[Unit]
    set_aside: dict[str, str]


@dataclass(frozen=True)
class _Row:
    line: int
    name: str
    file: Path
    patient: str
    order: float | str
    labels: tuple[float, ...]


def read_cohort(site: Site, experiment: Experiment) -> Cohort:
    """Read the table, check it, and choose each patient's index image.

    Raises SiteProblem: table missing or unreadable, a column missing ("outcome" for an outcome),
    a value that is not 0, 1 or empty, a path outside the site's folder, one file twice. Rows
    whose file is missing are set aside.
    """
    rows, missing = _read_rows(site, experiment.outcomes)
    by_patient: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        by_patient[row.patient].append(row)
    last = experiment.evaluation.index_image == "latest"
    units = []
    for patient, images in sorted(by_patient.items()):
        numbers = all(isinstance(r.order, float) for r in images)
        ordered = sorted(images, key=lambda r: (r.order if numbers else str(r.order), r.name))
        index = ordered[-1] if last else ordered[0]
        key = sha256(patient.encode()).hexdigest()
        units.append(Unit(key, index.file, index.labels))
    if not units:
        raise SiteProblem("cohort", f"{site.cohort}: no row has a file that exists")
    return Cohort(units, missing)


def _read_rows(site: Site, outcomes: list[str]) -> tuple[list[_Row], dict[str, str]]:
    path, columns = site.cohort, site.settings.columns
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines_of_text:
            reader = csv.DictReader(lines_of_text)
            table = list(reader)
            header = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SiteProblem("cohort", f"{path}: cannot be read as a CSV table: {error}") from error
    for column in (columns.file, columns.patient, *([columns.order] if columns.order else [])):
        if column not in header:
            raise SiteProblem("cohort", f"{path}: no column {column!r}; columns are {header}")
    for outcome in outcomes:
        if outcome not in header:
            raise SiteProblem(
                "outcome", f"{path}: no outcome column {outcome!r}; columns are {header}"
            )
    if not table:
        raise SiteProblem("cohort", f"{path}: the table has no rows")
    order_columns = [columns.order] if columns.order else [c for c in ORDER_COLUMNS if c in header]
    rows: list[_Row] = []
    missing: dict[str, str] = {}
    lines: dict[Path, int] = {}
    root = site.folder.resolve()
    for line, entry in enumerate(table, start=2):
        name = (entry[columns.file] or "").strip()
        patient = (entry[columns.patient] or "").strip()
        if not name or not patient:
            raise SiteProblem("cohort", f"{path}, line {line}: file or patient is empty")
        labels = tuple(_label(entry[o], o, path, line) for o in outcomes)
        file = (site.folder / name).resolve()
        if not file.is_relative_to(root):
            raise SiteProblem(
                "cohort", f"{path}, line {line}: {name} lies outside the site's folder"
            )
        if file in lines:
            raise SiteProblem(
                "cohort", f"{path}, line {line}: {name} stands already in line {lines[file]}"
            )
        lines[file] = line
        if not file.is_file():
            missing[name] = "no such file"
            continue
        rows.append(_Row(line, name, file, patient, _order(entry, order_columns, line), labels))
    return rows, missing


def _label(value: str | None, outcome: str, path: Path, line: int) -> float:
    text = (value or "").strip()
    if text == "":
        return float("nan")
    if text in ("0", "0.0", "1", "1.0"):
        return float(text)
    raise SiteProblem(
        "cohort", f"{path}, line {line}: {outcome} = {text!r}; allowed are 0, 1 and empty"
    )


def _order(entry: dict[str, str], columns: Iterable[str], line: int) -> float | str:
    """Place of an image among its patient's: the first order column with a value, else the line."""
    for column in columns:
        text = (entry[column] or "").strip()
        if text:
            try:
                return float(text)
            except ValueError:
                return text  # an ISO date sorts as text
    return float(line)


def split(
    units: list[Unit], settings: EvaluationSettings, seed: int
) -> dict[Part, NDArray[np.int64]]:
    """Rows of each part: by patient, stratified by the outcomes, the same at every call.

    Within a stratum (equal labels) patients are ordered by a digest of the seed and their key, so
    neither the order of the table nor another site's patients matter.
    """
    strata: dict[str, list[int]] = defaultdict(list)
    for row, unit in enumerate(units):
        strata[str(unit.labels)].append(row)
    parts: dict[Part, list[int]] = {part: [] for part in PARTS}
    for rows in strata.values():
        rows.sort(key=lambda row: sha256(f"{seed}:{units[row].key}".encode()).digest())
        test = round(len(rows) * settings.test)
        validation = round(len(rows) * settings.validation)
        parts["test"] += rows[:test]
        parts["validation"] += rows[test : test + validation]
        parts["train"] += rows[test + validation :]
    return {part: np.array(sorted(rows), dtype=np.int64) for part, rows in parts.items()}
