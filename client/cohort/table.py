"""The cohort table: one row per image, its patient a pseudonym from here on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path, PureWindowsPath

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import ORDER_COLUMNS, Columns, Site

from .patients import Pseudonyms
from .spreadsheet import Spreadsheet, day, number, read_spreadsheet

ABOUT = {
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
"""Columns that are never taken for outcomes where no experiment names any."""

InstanceUids = Callable[[Sequence[Path]], list[str]]


@dataclass(frozen=True)
class Row:
    """One image of the table.

    `name`: the file as in the table (or its SOP Instance UID). `file`: None where it was not
    found. `patient`: pseudonym. `draw`: digest of the patient number, which orders patients in the
    split so that the split does not hang on the salt; it is written nowhere. `orders`:
    a number per order column, NaN where empty. `labels`: 0, 1 or NaN per outcome. `values`: the
    other columns, for checks; those that `[columns]` of site.toml knows by their name there.
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
class Table:
    """A site's cohort table. `rows` are ordered by patient number, then by file, whatever the
    order in the file. `repeated`: file -> which row says the same."""

    path: Path
    encoding: str
    separator: str
    outcomes: tuple[str, ...]
    rows: list[Row]
    repeated: dict[str, str] = field(default_factory=dict)


def read_table(site: Site, outcomes: Sequence[str] | None, pseudonyms: Pseudonyms) -> Table:
    """Read and check the table. `outcomes` None: all columns of 0 and 1 that are not known to
    say something else. Patient numbers are dropped here.

    Rows that name a file by path have it if it exists; rows that name a SOP Instance UID get it
    from `find_by_uid`. Raises SiteProblem: no table, a column missing ("outcome" for an outcome),
    a value that is not 0, 1 or empty, a path outside the site's folder, a row without a patient,
    one file with two rows that differ in patient, outcome or order.
    """
    sheet = read_spreadsheet(site.cohort)
    columns = site.settings.columns
    if not sheet.rows:
        raise SiteProblem("cohort", f"{sheet.path}: the table has no rows")
    place = _places(sheet, columns)
    chosen = _outcomes(sheet, place, columns) if outcomes is None else list(outcomes)
    where = [_required(sheet, outcome, "outcome") for outcome in chosen]
    orders = [columns.order] if columns.order else list(ORDER_COLUMNS)
    order_at = [at for name in orders if (at := sheet.find(name)) is not None]
    known = {at: role for role, at in place.items()}
    kept: dict[str, tuple[str, Row]] = {}
    repeated: dict[str, str] = {}
    for line, cells in zip(sheet.lines, sheet.rows, strict=True):
        what = f"{sheet.path}, line {line}"
        patient = cells[place["patient"]]
        reference = cells[place["file"]] if "file" in place else ""
        uid = cells[place["instance_uid"]] if "instance_uid" in place else ""
        if not patient:
            raise SiteProblem("cohort", f"{what}: the patient is empty")
        file = _inside(site.folder, reference, what) if reference else None
        name = reference if file is None else file.relative_to(site.folder.resolve()).as_posix()
        row = Row(
            line=line,
            name=name or uid or f"line {line}, which names no file",
            file=file if file is not None and file.is_file() else None,
            patient=pseudonyms.of(patient),
            draw=sha256(patient.encode()).hexdigest(),
            orders=tuple(_order(cells[at], sheet.header[at], what) for at in order_at),
            labels=tuple(_label(cells[at], sheet.header[at], what) for at in where),
            values={
                known.get(at, key): cells[at]
                for at, key in enumerate(sheet.header)
                if known.get(at) not in ("patient", "file")
            },
        )
        if row.name in kept:
            first = kept[row.name][1]
            _same_or_refused(first, row, what)
            repeated[f"{row.name} (line {line})"] = f"line {first.line} says the same"
        else:
            kept[row.name] = (patient, row)
    rows = [row for _, row in sorted(kept.values(), key=lambda item: (item[0], item[1].name))]
    if "instance_uid" not in place and not any(row.file for row in rows):
        raise SiteProblem("cohort", f"{sheet.path}: no row has a file that exists")
    return Table(sheet.path, sheet.encoding, sheet.separator, tuple(chosen), rows, repeated)


def find_by_uid(table: Table, site: Site, instance_uids: InstanceUids) -> Table:
    """The table with files found for rows that name a SOP Instance UID only.

    Reads the UID of every file in the site's folder (`instance_uids`: "" where a file has none).
    Raises SiteProblem where two files have the UID of a row, or no row has a file.
    """
    if all(row.file or not row.values.get("instance_uid") for row in table.rows):
        return table
    state = site.state.resolve()
    files = sorted(
        path
        for path in site.folder.resolve().rglob("*")
        if path.is_file() and path != site.cohort.resolve() and not path.is_relative_to(state)
    )
    by_uid: dict[str, list[Path]] = {}
    for file, uid in zip(files, instance_uids(files), strict=True):
        by_uid.setdefault(uid, []).append(file)
    rows = []
    for row in table.rows:
        uid = row.values.get("instance_uid", "")
        found = by_uid.get(uid, []) if uid and row.file is None else []
        if len(found) > 1:
            names = ", ".join(str(f.relative_to(site.folder.resolve())) for f in found)
            raise SiteProblem(
                "cohort",
                f"{table.path}, line {row.line}: {len(found)} files have this SOP "
                f"Instance UID: {names}; keep one",
            )
        rows.append(replace(row, file=found[0]) if found else row)
    if not any(row.file for row in rows):
        raise SiteProblem("cohort", f"{table.path}: no file has a SOP Instance UID of the table")
    return replace(table, rows=rows)


def _places(sheet: Spreadsheet, columns: Columns) -> dict[str, int]:
    """Where the table's own columns are. A column that site.toml names must be there."""
    found = {}
    for role in Columns.model_fields:
        name = getattr(columns, role)
        if name is None:
            continue
        at = sheet.find(name)
        if at is not None:
            found[role] = at
        elif role in columns.model_fields_set or role == "patient":
            _required(sheet, name, "cohort")
    if "file" not in found and "instance_uid" not in found:
        raise SiteProblem(
            "cohort",
            f"{sheet.path}: no column {columns.file!r} (path within the folder) and no column "
            f"{columns.instance_uid!r}; columns are {sheet.header}",
        )
    return found


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
    """Columns of 0, 1 and empty cells, not known to say something else."""
    known = {*place.values()} | {at for c in ORDER_COLUMNS if (at := sheet.find(c)) is not None}
    found = []
    for at, name in enumerate(sheet.header):
        values = {row[at] for row in sheet.rows} - {""}
        about = at in known or name.casefold() in ABOUT
        if values and not about and all(number(value) in (0.0, 1.0) for value in values):
            found.append(name)
    if not found:
        raise SiteProblem(
            "outcome",
            f"{sheet.path}: no column holds an outcome (0, 1 or empty); columns are {sheet.header}",
        )
    return found


def _inside(folder: Path, reference: str, what: str) -> Path:
    """The file of a reference: relative to the folder, or absolute within it."""
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


def _same_or_refused(first: Row, second: Row, what: str) -> None:
    """A row that says the same again is repeated; one that contradicts is the site's to mend."""
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
