"""Reads spreadsheets as hospitals export them: any common encoding, separator, decimal mark."""

import csv
import io
import re
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from fedrad.client.problems import SiteProblem
from fedrad.exchange.names import folded

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@dataclass(frozen=True)
class Spreadsheet:
    """A table of cells as text, without surrounding blanks. `lines`: line of each row in the
    file."""

    path: Path
    encoding: str
    separator: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def find(self, name: str) -> int | None:
        """Position of a column, None if there is none.

        Names that differ only in case or in blanks, `-` and `_` are one name (`folded`). Raises
        SiteProblem if two columns have it: an experiment could otherwise reach a second column
        under a name that the site gave for the first.
        """
        places = [i for i, column in enumerate(self.header) if folded(column) == folded(name)]
        if len(places) > 1:
            raise SiteProblem(
                "cohort",
                f"{self.path}: {len(places)} columns are named {name!r}; keep one (upper and lower "
                "case, blanks, - and _ make no other name)",
            )
        return places[0] if places else None


def read_spreadsheet(path: Path) -> Spreadsheet:
    """Read a table. Raises SiteProblem("cohort") that names the line of the fault.

    Encoding: by byte order mark, else UTF-8, else Windows-1252. Separator: that of `sep=` in the
    first line (Excel), else the one that gives the header the most columns. Blank lines are
    ignored, and so are columns without a name if all their cells are empty.
    """
    text, encoding = _decoded(path)
    first = text.split("\n", 1)[0].strip()
    skipped = 0
    if stated := re.fullmatch(r'"?sep=(.)"?', first, re.IGNORECASE):
        separator, skipped = stated[1], 1
        text = text.split("\n", 1)[1] if "\n" in text else ""
    else:
        separator = max(SEPARATORS, key=lambda s: len(next(csv.reader([first], delimiter=s), [])))
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num + skipped)
    except csv.Error as error:
        raise SiteProblem(
            "cohort", f"{path}, line {reader.line_num + skipped}: cannot be read: {error}"
        ) from error
    if not rows:
        raise SiteProblem("cohort", f"{path}: the table is empty")
    header, rows = rows[0], rows[1:]
    width = max((i + 1 for i, name in enumerate(header) if name), default=0)
    for line, row in zip(lines[1:], rows, strict=True):
        if any(row[width:]):
            raise SiteProblem(
                "cohort",
                f"{path}, line {line}: {len(row)} cells for {width} columns; put values that hold "
                f"a {SEPARATORS.get(separator, 'separator')} between quotation marks",
            )
    rows = [(row + [""] * width)[:width] for row in rows]
    return Spreadsheet(path, encoding, separator, header[:width], rows, lines[1:])


def _decoded(path: Path) -> tuple[str, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SiteProblem(
            "cohort", f"{path}: cannot be read as a CSV table: {error.strerror}"
        ) from error
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise SiteProblem("cohort", f"{path}: is an Excel workbook; save it as CSV (UTF-8)")
    encodings = ["utf-8-sig", "cp1252"]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text, {"utf-8-sig": "UTF-8", "utf-16": "UTF-16", "cp1252": "Windows-1252"}[encoding]
    raise SiteProblem("cohort", f"{path}: cannot be read as a CSV table: it holds no text")


def number(text: str) -> float | None:
    """A number with a decimal point or comma; None for anything else."""
    try:
        return float(text if "," not in text else text.replace(",", "."))
    except ValueError:
        return None


def day(text: str) -> date | None:
    """The date of YYYY-MM-DD, YYYYMMDD or DD.MM.YYYY, with or without a time after it.

    None for dates with slashes: 3/4/2024 may be in March or in April.
    """
    head = text.strip()
    if german := re.match(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(\s|$)", head):
        try:
            return date(int(german[3]), int(german[2]), int(german[1]))
        except ValueError:
            return None
    if re.fullmatch(r"(19|20)\d{6}", head) or re.match(r"\d{4}-\d{2}-\d{2}", head):
        try:
            return datetime.fromisoformat(head).date()
        except ValueError:
            return None
    return None
