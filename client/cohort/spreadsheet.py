"""Reads spreadsheets as hospitals export them, strictly: what could be read in two ways is refused
with its line."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedrad.client.problems import SiteProblem
from fedrad.exchange.names import folded
from fedrad.system.files import read_regular

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
LARGEST_TABLE = 2**28
"""Bytes; the largest cohorts have tables of a hundredth of this."""
HEADER_LINES = 20
"""Most lines that a header with line breaks may take."""

_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig", "UTF-8"),
    (b"\xff\xfe\0\0", "utf-32", "UTF-32"),
    (b"\0\0\xfe\xff", "utf-32", "UTF-32"),
    (b"\xff\xfe", "utf-16", "UTF-16"),
    (b"\xfe\xff", "utf-16", "UTF-16"),
)
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Spreadsheet:
    """A table of cells as text, without surrounding blanks.

    `lines`: line of each row in the file, as an editor counts them. `ended`: whether the last line
    has an end; where it has none, the file may have been cut.
    """

    path: Path
    encoding: str
    separator: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    ended: bool = True

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
    """Read a table. Nothing is guessed: what could be read in two ways is refused.

    Encoding: by byte order mark, else UTF-8, else Windows-1252 (Mac Roman if lines end as on an old
    Mac). Separator: that of `sep=` in the first line (Excel), else the one that gives the header
    the most columns. Blank lines are ignored, and so are columns without a name if all their cells
    are empty.

    A row is one line. Only the header may hold line breaks: a quotation mark that is not closed
    would otherwise swallow the rows after it. Each row has as many cells as the header: a cell that
    was lost or split would otherwise shift the others into wrong columns.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    SiteProblem
        "cohort", with the line of the fault and what to do.
    """
    text, encoding = _decoded(path)
    lines = _LINE_END.split(text)
    first_end = _LINE_END.search(text)
    ended = first_end is not None and text.endswith(first_end[0])
    separator, first = _stated_separator(lines)
    while first < len(lines) and _is_blank(lines[first]):
        first += 1
    if first == len(lines):
        raise SiteProblem("cohort", f"{path}: the table is empty")
    header, separator, after = _header(path, lines, first, separator)
    rows, numbers = [], []
    for at in range(after, len(lines)):
        row = _row(path, at, lines[at], separator)
        if not any(row):
            continue
        if len(row) != len(header):
            raise SiteProblem(
                "cohort",
                f"{path}, line {at + 1}: {len(row)} cells for {len(header)} columns; put values "
                f"that hold a {SEPARATORS.get(separator, 'separator')} between quotation marks, "
                "write a separator for an empty cell too, and take out titles, comments and notes "
                f"(line {first + 1} is read as the header)",
            )
        rows.append(row)
        numbers.append(at + 1)
    width = max((i + 1 for i, name in enumerate(header) if name), default=0)
    for line, row in zip(numbers, rows, strict=True):
        if any(row[width:]):
            raise SiteProblem(
                "cohort",
                f"{path}, line {line}: has a value in a column without a name, after the {width} "
                "columns of the header; name the column, or take the value out",
            )
    rows = [row[:width] for row in rows]
    return Spreadsheet(path, encoding, separator, header[:width], rows, numbers, ended)


def _is_blank(line: str) -> bool:
    return not line.strip(" " + "".join(SEPARATORS))


def _stated_separator(lines: list[str]) -> tuple[str, int]:
    """The separator that Excel's `sep=` names ("" without it), and the line after it."""
    stated = re.fullmatch(r'"?sep=([^\w\s"]|\t)"?\1*', lines[0].rstrip(" "), re.IGNORECASE)
    return (stated[1], 1) if stated else ("", 0)


def _header(path: Path, lines: list[str], first: int, separator: str) -> tuple[list[str], str, int]:
    """The names of the columns, the separator, and the line after the header.

    Raises SiteProblem if two separators fit, or if a line break in the header may be a row that a
    quotation mark swallowed.
    """
    for after in range(first + 1, min(first + HEADER_LINES, len(lines)) + 1):
        text = "\n".join(lines[first:after])
        tried = {one: _parsed(text, one) for one in ([separator] if separator else SEPARATORS)}
        parsed = {one: names for one, names in tried.items() if names is not None}
        most = max(map(len, parsed.values()), default=0)
        best = [one for one, names in parsed.items() if len(names) == most]
        if most < 2 and len(parsed) < len(tried):  # an open quotation mark: a line break in a name
            continue
        if len(best) > 1 and most > 1:
            raise SiteProblem(
                "cohort",
                f"{path}, line {first + 1}: the header can be divided by "
                f"{' or by '.join(SEPARATORS[one] for one in best)}; write sep={best[0]} into a "
                "line before it, or export the table with one separator",
            )
        if parsed:
            names = [" ".join(name.split()) for name in parsed[best[0]]]
            if any("\n" in name and set(name) & set(SEPARATORS) for name in parsed[best[0]]):
                break
            return names, best[0], after
    raise SiteProblem(
        "cohort",
        f"{path}, line {first + 1}: a quotation mark in the header is not closed (or a name with a "
        "line break holds a separator: take one of them out)",
    )


def _parsed(text: str, separator: str) -> list[str] | None:
    """The cells of a text that is one row; None if its quotation marks do not fit."""
    try:
        rows = list(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _row(path: Path, at: int, line: str, separator: str) -> list[str]:
    """The cells of a line. Raises SiteProblem if its quotation marks do not fit."""
    if '"' not in line:
        return [cell.strip() for cell in line.split(separator)]
    cells = _parsed(line, separator)
    if cells is None:
        raise SiteProblem(
            "cohort",
            f"{path}, line {at + 1}: a quotation mark is opened and not closed in this line, or "
            "stands within a quoted value. If a value holds a line break, take it out; if it holds "
            'a quotation mark, export the table again so that it is written twice ("")',
        )
    return [cell.strip() for cell in cells]


def _decoded(path: Path) -> tuple[str, str]:
    """The text of a file and the name of its encoding."""
    try:
        content = read_regular(path, LARGEST_TABLE)
    except OSError as error:
        raise SiteProblem(
            "cohort", f"{path}: cannot be read as a CSV table: {error.strerror}"
        ) from error
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise SiteProblem("cohort", f"{path}: is an Excel workbook; save it as CSV (UTF-8)")
    stated = (known[1:] for known in _BYTE_ORDER_MARKS if content.startswith(known[0]))
    codec, name = next(stated, ("utf-8", "UTF-8"))
    text = _decode(content, codec)
    if text is None and codec == "utf-8":
        _refuse_two_encodings(path, content)
        mac = b"\r" in content and b"\n" not in content
        codec, name = ("mac_roman", "Mac Roman") if mac else ("cp1252", "Windows-1252")
        text = _decode(content, codec)
    if text is None:
        raise SiteProblem(
            "cohort",
            f"{path}: cannot be read as a CSV table: its text is not in {name}; save it as CSV "
            "(UTF-8)",
        )
    if "\0" in text:
        line = len(_LINE_END.findall(text[: text.index("\0")])) + 1
        raise SiteProblem(
            "cohort",
            f"{path}, line {line}: cannot be read as a CSV table: it holds no text there (or "
            "UTF-16 without a byte order mark); save it as CSV (UTF-8)",
        )
    return text, name


def _decode(content: bytes, codec: str) -> str | None:
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        return None


def _refuse_two_encodings(path: Path, content: bytes) -> None:
    """Raise SiteProblem if some lines are UTF-8 and others are not, as after a copy from another
    table: one name would be written in two ways."""
    foreign = list(_not_utf8(content))
    if len({fits for _, fits in foreign}) > 1:
        line = next(line for line, fits in foreign if not fits)
        raise SiteProblem(
            "cohort",
            f"{path}, line {line}: is not in UTF-8, and other lines are; save the whole table as "
            "CSV (UTF-8)",
        )


def _not_utf8(content: bytes) -> Iterator[tuple[int, bool]]:
    """The lines that are not ASCII, and whether they are UTF-8."""
    for line, part in enumerate(re.split(rb"\r\n|\n|\r", content), start=1):
        if not part.isascii():
            yield line, _decode(part, "utf-8") is not None
