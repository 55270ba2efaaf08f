"""Reads the cohort table: one row per image. Patient numbers become pseudonyms here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import ORDER_COLUMNS, Columns, Site

from .patients import PatientDraw, Pseudonyms
from .spreadsheet import Spreadsheet, day, number, read_spreadsheet
from .withdrawn import Withdrawn

NOT_OUTCOMES = {
    "sex",
    "female",
    "male",
    "age",
    "gestational_age",
    "birth_weight",
    "view",
    "scanner",
    "manufacturer",
    "model",
    "licence",
    "license",
    "source",
    "source_split",
    "image",
    "center",
    "site",
    "id",
}
"""Columns that are never outcomes, even if all their values are 0 or 1."""


@dataclass(frozen=True)
class CohortRow:
    """One image of the table.

    Attributes
    ----------
    line
        Line in the table's file.
    name
        The file as the table names it, or its SOP Instance UID.
    file
        None if the file does not exist.
    patient
        Pseudonym.
    draw
        Digest of the patient number (`PatientDraw`). It orders the patients for the division, so
        that the division does not depend on the salt. It is never written to a file.
    orders
        Value of each order column, NaN if empty.
    labels
        0, 1 or NaN for each outcome.
    values
        Cells of the other columns, for checks. Columns of `[columns]` in site.toml have the name
        that they have there.
    """

    line: int
    name: str
    file: Path | None
    patient: str
    draw: str
    orders: tuple[float, ...]
    labels: tuple[float, ...]
    values: dict[str, str]


@dataclass(frozen=True)
class CohortTable:
    """A site's cohort table.

    `rows` are ordered by patient number, then by file, not as in the file. `repeated`: repeated
    row -> the row that it repeats. `withdrawn`: number of patients who withdrew, whose rows are
    not among them.
    """

    path: Path
    encoding: str
    separator: str
    outcomes: tuple[str, ...]
    rows: list[CohortRow]
    repeated: dict[str, str] = field(default_factory=dict)
    withdrawn: int = 0


def read_table(site: Site, outcomes: Sequence[str] | None, pseudonyms: Pseudonyms) -> CohortTable:
    """Read and check the cohort table, and replace patient numbers by pseudonyms.

    Rows of patients who withdrew are passed over: nothing of them but the patient number is read.
    Rows that name a file by its path get the file here, if it exists. Rows that name a SOP Instance
    UID get it from `find_by_uid`.

    Parameters
    ----------
    site
        The site, whose settings name the table and its columns.
    outcomes
        Columns of the outcomes. None for all columns of 0 and 1 that have no other known meaning.
    pseudonyms
        Makes the pseudonyms of the patients. With temporary ones nothing is written, and the rows
        cannot be divided.

    Raises
    ------
    SiteProblem
        If there is no table; if a column is missing (reason "outcome" for an outcome); for a value
        that is not 0, 1 or empty, a path outside the site's folder, a row without a patient, or two
        rows of one file that differ in patient, outcome or order.
    """
    sheet = read_spreadsheet(site.cohort)
    columns = site.settings.columns
    withdrawn, passed_over = Withdrawn.read(site.state), set[str]()
    draw = PatientDraw.of_site(site) if pseudonyms.stored else PatientDraw.temporary()
    if not sheet.rows:
        raise SiteProblem("cohort", f"{sheet.path}: the table has no rows")
    place = _places(sheet, columns)
    chosen = _outcomes(sheet, place, columns) if outcomes is None else list(outcomes)
    where = [_required(sheet, outcome, "outcome") for outcome in chosen]
    orders = [columns.order] if columns.order else list(ORDER_COLUMNS)
    order_at = [at for name in orders if (at := sheet.find(name)) is not None]
    roles = {at: role for role, at in place.items()}
    rows_by_name: dict[str, tuple[str, CohortRow]] = {}
    repeated: dict[str, str] = {}
    for line, cells in zip(sheet.lines, sheet.rows, strict=True):
        what = f"{sheet.path}, line {line}"
        patient = cells[place["patient"]]
        if patient in withdrawn:
            passed_over.add(patient)
            continue
        reference = cells[place["file"]] if "file" in place else ""
        uid = cells[place["instance_uid"]] if "instance_uid" in place else ""
        if not patient:
            raise SiteProblem("cohort", f"{what}: the patient is empty")
        file = file_inside(site.folder, reference, what) if reference else None
        name = reference if file is None else file.relative_to(site.folder.resolve()).as_posix()
        row = CohortRow(
            line=line,
            name=name or uid or f"line {line}, which names no file",
            file=file if file is not None and file.is_file() else None,
            patient=pseudonyms.of(patient),
            draw=draw.of(patient),
            orders=tuple(_order(cells[at], sheet.header[at], what) for at in order_at),
            labels=tuple(_label(cells[at], sheet.header[at], what) for at in where),
            values={
                roles.get(at, key): cells[at]
                for at, key in enumerate(sheet.header)
                if roles.get(at) not in ("patient", "file")
            },
        )
        if row.name in rows_by_name:
            first = rows_by_name[row.name][1]
            _check_repetition(first, row, what)
            repeated[f"{row.name} (line {line})"] = f"line {first.line} says the same"
        else:
            rows_by_name[row.name] = (patient, row)
    rows = [
        row for _, row in sorted(rows_by_name.values(), key=lambda item: (item[0], item[1].name))
    ]
    if "instance_uid" not in place and not any(row.file for row in rows):
        raise SiteProblem("cohort", f"{sheet.path}: no row has a file that exists")
    return CohortTable(
        sheet.path,
        sheet.encoding,
        sheet.separator,
        tuple(chosen),
        rows,
        repeated,
        len(passed_over),
    )


def _places(sheet: Spreadsheet, columns: Columns) -> dict[str, int]:
    """Positions of the columns of `[columns]`. A column that site.toml names must exist."""
    places = {}
    for role in Columns.model_fields:
        name = getattr(columns, role)
        if name is None:
            continue
        at = sheet.find(name)
        if at is not None:
            places[role] = at
        elif role in columns.model_fields_set or role == "patient":
            _required(sheet, name, "cohort")
    if "file" not in places and "instance_uid" not in places:
        raise SiteProblem(
            "cohort",
            f"{sheet.path}: no column {columns.file!r} (path within the folder) and no column "
            f"{columns.instance_uid!r}; columns are {sheet.header}",
        )
    return places


def _required(sheet: Spreadsheet, name: str, reason: str) -> int:
    at = sheet.find(name)
    if at is None:
        what = "outcome column" if reason == "outcome" else "column"
        raise SiteProblem(
            "outcome" if reason == "outcome" else "cohort",
            f"{sheet.path}: no {what} {name!r}; columns are {sheet.header}",
        )
    return at


def _outcomes(sheet: Spreadsheet, place: dict[str, int], columns: Columns) -> list[str]:
    """Columns of 0, 1 and empty cells that have no other known meaning."""
    known = {*place.values()} | {at for c in ORDER_COLUMNS if (at := sheet.find(c)) is not None}
    outcomes = []
    for at, name in enumerate(sheet.header):
        values = {row[at] for row in sheet.rows} - {""}
        excluded = at in known or name.casefold() in NOT_OUTCOMES
        if values and not excluded and all(number(value) in (0.0, 1.0) for value in values):
            outcomes.append(name)
    if not outcomes:
        raise SiteProblem(
            "outcome",
            f"{sheet.path}: no column holds an outcome (0, 1 or empty); columns are {sheet.header}",
        )
    return outcomes


def file_inside(folder: Path, reference: str, what: str) -> Path:
    """The file of a reference: relative to the folder, or absolute within it. `what`: row of the
    table, for the SiteProblem if it lies outside."""
    root = folder.resolve()
    if PureWindowsPath(reference).drive:
        raise SiteProblem(
            "cohort",
            f"{what}: {reference} is a path of a Windows drive; write it relative to "
            "the site's folder",
        )
    if "\\" in reference and not (root / reference).is_file():
        reference = reference.replace("\\", "/")
    file = (root / reference).resolve()
    if not file.is_relative_to(root):
        raise SiteProblem("cohort", f"{what}: {reference} lies outside the site's folder")
    return file


def _label(text: str, outcome: str, what: str) -> float:
    if text == "":
        return float("nan")
    if (value := number(text)) in (0.0, 1.0):
        return float(value)
    raise SiteProblem("cohort", f"{what}: {outcome} = {text!r}; allowed are 0, 1 and empty")


def _order(text: str, column: str, what: str) -> float:
    """A number, or the ordinal of a date."""
    if text == "":
        return float("nan")
    if (date := day(text)) is not None:
        return float(date.toordinal())
    if (value := number(text)) is not None:
        return value
    raise SiteProblem(
        "cohort", f"{what}: {column} = {text!r}; write a number or a date as YYYY-MM-DD"
    )


def _check_repetition(first: CohortRow, second: CohortRow, what: str) -> None:
    """Raise SiteProblem if two rows of one file contradict each other; equal rows are allowed."""
    differing = [
        name
        for name, one, two in (
            ("patient", first.patient, second.patient),
            ("outcome", repr(first.labels), repr(second.labels)),
            ("order", repr(first.orders), repr(second.orders)),
        )
        if one != two
    ]
    if differing:
        raise SiteProblem(
            "cohort",
            f"{what}: {second.name} stands already in line {first.line}, with another "
            f"{' and '.join(differing)}",
        )
