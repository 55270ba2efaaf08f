"""Reads the cohort table: one row per image. Patient numbers become pseudonyms here."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Columns, Site

from .file_names import NamedFile, SiteFiles
from .listed_numbers import ListedNumbers
from .order import order_columns, orders
from .outcomes import ColumnNearlyOutcome, labels, outcome_columns
from .patients import PatientDraw, Pseudonyms
from .spreadsheet import Spreadsheet, read_spreadsheet
from .withdrawn import Withdrawn


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
        None if the file cannot be used.
    why_missing
        Why `file` is None, if the table names a file.
    patient
        Pseudonym.
    draw
        Digest of the patient number (`PatientDraw`). It orders the patients for the division, so
        that the division does not depend on the salt. It is never written to a file.
    orders
        Place by each order column (`order.orders`), NaN if empty.
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
    why_missing: str = ""


@dataclass(frozen=True)
class CohortTable:
    """A site's cohort table.

    Attributes
    ----------
    path, encoding, separator
        The file, and how it is written.
    outcomes
        The columns of `CohortRow.labels`.
    rows
        Ordered by patient number, then by file, not as in the file.
    file_rows
        Number of rows in the file.
    repeated
        Repeated row -> the row that it repeats.
    withdrawn, withdrawn_rows
        Number of patients who withdrew, and of their rows, which are not among `rows`.
    numbers
        What is remarkable about the patient numbers.
    nearly_outcomes
        Columns that look like outcomes and are none; only if no outcomes were asked for.
    respelled
        File -> how the disk spells its name.
    ended
        Whether the last line has an end; if not, the file may have been cut.
    """

    path: Path
    encoding: str
    separator: str
    outcomes: tuple[str, ...]
    rows: list[CohortRow]
    file_rows: int = 0
    repeated: dict[str, str] = field(default_factory=dict)
    withdrawn: int = 0
    withdrawn_rows: int = 0
    numbers: ListedNumbers = field(default_factory=ListedNumbers)
    nearly_outcomes: Sequence[ColumnNearlyOutcome] = ()
    respelled: dict[str, str] = field(default_factory=dict)
    ended: bool = True

    @property
    def patients(self) -> int:
        """Number of patients in `rows`."""
        return len({row.patient for row in self.rows})

    def counted(self) -> str:
        """How many rows were in the file, what became of them, and how many patients they are."""
        parts = [f"{self.file_rows} rows in the table", f"{len(self.rows)} read"]
        if self.repeated:
            parts.append(f"{len(self.repeated)} repeat another")
        if self.withdrawn_rows:
            parts.append(f"{self.withdrawn_rows} of {self.withdrawn} patients who withdrew")
        return f"{', '.join(parts)}; {self.patients} patients"


def read_table(site: Site, outcomes: Sequence[str] | None, pseudonyms: Pseudonyms) -> CohortTable:
    """Read and check the cohort table, and replace patient numbers by pseudonyms.

    Rows of patients who withdrew are passed over: nothing of them but the patient number is used.
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
        If there is no table, or it can be read in two ways (`read_spreadsheet`); if a column is
        missing (reason "outcome" for an outcome); for a value that is not 0, 1 or empty, a place in
        the order that cannot be compared, a path outside the site's folder, a cell that is no
        patient number, numbers that may be one patient's, or two rows of one file that differ in
        patient, outcome or order.
    """
    sheet = read_spreadsheet(site.cohort)
    columns = site.settings.columns
    withdrawn = Withdrawn.read(site.state)
    draw = PatientDraw.of_site(site) if pseudonyms.stored else PatientDraw.temporary()
    if not sheet.rows:
        raise SiteProblem("cohort", f"{sheet.path}: the table has no rows")
    place = _places(sheet, columns)
    listed = ListedNumbers.read(sheet, place["patient"], site.settings.patient_numbers)
    sheet, numbers, passed_over = _without(sheet, listed, withdrawn)
    nearly: Sequence[ColumnNearlyOutcome] = ()
    if outcomes is None:
        known = {*place.values(), *order_columns(sheet, columns)}
        outcomes, nearly = outcome_columns(sheet, known)
    read_labels = labels(sheet, [_required(sheet, outcome, "outcome") for outcome in outcomes])
    read_orders = orders(sheet, columns, numbers)
    files = SiteFiles(site.folder)
    roles = {at: role for role, at in place.items()}
    by_file: dict[str, tuple[str, CohortRow]] = {}
    repeated: dict[str, str] = {}
    respelled: dict[str, str] = {}
    for at, (line, cells) in enumerate(zip(sheet.lines, sheet.rows, strict=True)):
        what = f"{sheet.path}, line {line}"
        reference = cells[place["file"]] if "file" in place else ""
        uid = cells[place["instance_uid"]] if "instance_uid" in place else ""
        named = files.find(reference, what) if reference else NamedFile(uid, None)
        row = CohortRow(
            line=line,
            name=named.name or f"line {line}, which names no file",
            file=named.file,
            patient=pseudonyms.of(numbers[at]),
            draw=draw.of(numbers[at]),
            orders=read_orders[at],
            labels=read_labels[at],
            values={
                roles.get(i, key): cells[i]
                for i, key in enumerate(sheet.header)
                if roles.get(i) not in ("patient", "file")
            },
            why_missing=named.why or "no such file",
        )
        if named.spelled:
            respelled[row.name] = named.spelled
        same = by_file.setdefault(str(row.file or row.name), (numbers[at], row))[1]
        if same is not row:
            _check_repetition(same, row, what)
            repeated[f"{row.name} (line {line})"] = f"line {same.line} says the same"
    rows = [row for _, row in sorted(by_file.values(), key=lambda item: (item[0], item[1].name))]
    if "instance_uid" not in place and rows and not any(row.file for row in rows):
        raise SiteProblem(
            "cohort",
            f"{sheet.path}: no row has a file that exists. {rows[0].name}: {rows[0].why_missing}",
        )
    return CohortTable(
        sheet.path,
        sheet.encoding,
        sheet.separator,
        tuple(outcomes),
        rows,
        len(listed.numbers),
        repeated,
        len(passed_over),
        len(listed.numbers) - len(sheet.rows),
        listed,
        nearly,
        respelled,
        sheet.ended,
    )


def _without(
    sheet: Spreadsheet, listed: ListedNumbers, withdrawn: Withdrawn
) -> tuple[Spreadsheet, list[str], set[str]]:
    """The rows of patients who did not withdraw, their numbers, and the numbers of those who
    did. Who withdrew under one spelling of a number withdrew under all of them."""
    out = {
        number
        for number, spelled in listed.spelled.items()
        if any(one in withdrawn for one in {number, *spelled})
    }
    stay = [at for at, number in enumerate(listed.numbers) if number not in out]
    rows, lines = [sheet.rows[at] for at in stay], [sheet.lines[at] for at in stay]
    return (
        replace(sheet, rows=rows, lines=lines),
        [listed.numbers[at] for at in stay],
        out,
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
