"""Cohort tables as they come out of spreadsheets, copied, cut and half converted, with the truth.

A mutation changes how a table is written, not what its writer meant. Whatever is read must be what
was meant, or be named, or be refused.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from fedrad.client.cohort import CohortTable, Pseudonyms, read_table
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site

FILES = 12
REMARKS = ("", "left side up", "Größe 6 cm", 'tube "new"', "old; see 2", "a, b", "é\tf")


@dataclass(frozen=True)
class Meant:
    """What the writer of a table meant: per file its patient, label and place in the order."""

    patients: dict[str, int]
    labels: dict[str, str]
    places: dict[str, float]


@dataclass
class Written:
    """A table in the making: cells, then text, then bytes."""

    rows: list[list[str]]
    separator: str = ","
    line_end: str = "\n"
    encoding: str = "utf-8"
    text: str = ""
    content: bytes = b""


HEADER = ["file", "patient_id", "label", "day", "remark"]
FILE, PATIENT, LABEL, DAY, REMARK = range(5)


def draw_table(random: Random) -> tuple[Meant, list[list[str]]]:
    """A sound table of up to FILES rows, and what it means."""
    number = random.choice(
        [
            lambda k: f"P{k:03d}",
            lambda k: str(100 + k),
            lambda k: str(1002003004000 + 7 * k),
            lambda k: f"A-{k}/23",
            lambda k: f"{k:06d}",
        ]
    )
    dated = random.random() < 0.5
    start = datetime(2024, 1, 5)
    rows, patients, labels, places = [], {}, {}, {}
    files = random.sample(range(FILES), random.randint(3, FILES))
    for at, file in enumerate(files):
        name = f"images/{file:04d}.png"
        patient = at // random.randint(1, 2)
        place = float(at)
        day = f"{start + timedelta(days=at):%Y-%m-%d}" if dated else str(at)
        labels[name] = random.choice(["0", "1", ""])
        patients[name], places[name] = patient, place
        rows.append([name, number(patient), labels[name], day, random.choice(REMARKS)])
    random.shuffle(rows)
    return Meant(patients, labels, places), rows


def _a_row(random: Random, table: Written) -> list[str]:
    return random.choice(table.rows)


def _patient(change: Callable[[Random, str], str]) -> Callable[[Random, Written], None]:
    """A change of the patient number in one row, or in all."""

    def mutate(random: Random, table: Written) -> None:
        for row in table.rows if random.random() < 0.3 else [_a_row(random, table)]:
            row[PATIENT] = change(random, row[PATIENT])

    return mutate


def _scientific(random: Random, number: str) -> str:
    if not number.isdecimal():
        return number
    text = f"{int(number):.5E}"
    return text.replace(".", random.choice([".", ","]))


def _insert(random: Random, text: str, piece: str) -> str:
    at = random.randint(0, len(text))
    return text[:at] + piece + text[at:]


def _day(random: Random, table: Written) -> None:
    """Another way to write a day, in one row or in all."""
    way = random.choice(
        ["%d.%m.%Y", "%Y/%m/%d", "%Y%m%d", "%Y-%m-%d 00:00:00", "%d/%m/%y", "serial"]
    )
    for row in table.rows if random.random() < 0.5 else [_a_row(random, table)]:
        try:
            day = datetime.strptime(row[DAY], "%Y-%m-%d")
        except ValueError:
            continue
        serial = str((day - datetime(1899, 12, 30)).days)
        row[DAY] = serial if way == "serial" else day.strftime(way)


def _label(random: Random, table: Written) -> None:
    row = _a_row(random, table)
    ways = {"1": ["1.0", "1,0", "yes", "TRUE", "x", "01"], "0": ["0.0", "no", "FALSE", "-1", "0,0"]}
    row[LABEL] = random.choice(ways.get(row[LABEL], ["nan", "NA", "", "?"]))


def _cell(random: Random, table: Written) -> None:
    """A cell is lost, or one too many."""
    row = _a_row(random, table)
    if random.random() < 0.5:
        del row[random.randrange(len(row))]
    else:
        row.insert(random.randrange(len(row) + 1), random.choice(["", "x"]))


def _file(random: Random, table: Written) -> None:
    """Another spelling of a file's name, or a typing error."""
    row = _a_row(random, table)
    name = row[FILE]
    row[FILE] = random.choice(
        [
            name.upper(),
            name.replace("/", "\\"),
            f"./{name}",
            name.replace("/", "//"),
            f"images/../{name}",
            name.replace(".png", ".dcm"),
            name[:-1],
        ]
    )


def _repeat(random: Random, table: Written) -> None:
    table.rows.append(list(_a_row(random, table)))


CELLS: dict[str, Callable[[Random, Written], None]] = {
    "patient number in scientific notation": _patient(_scientific),
    "patient number as a float": _patient(lambda r, n: n + r.choice([".0", ",0", ".00"])),
    "leading zeros": _patient(lambda r, n: r.choice([f"00{n}", n.lstrip("0") or n])),
    "case": _patient(lambda r, n: n.swapcase()),
    "apostrophe": _patient(lambda r, n: f"'{n}"),
    "invisible character": _patient(
        lambda r, n: _insert(r, n, r.choice(["\u200b", "\u00ad", "\ufeff", "\u200e"]))
    ),
    "blank": _patient(lambda r, n: r.choice([f" {n}", f"{n}\u00a0", _insert(r, n, " ")])),
    "file name": _file,
    "day": _day,
    "label": _label,
    "cell lost or added": _cell,
    "row repeated": _repeat,
    "no patient number": _patient(
        lambda r, n: r.choice(["", "nan", "unknown", "-", "#N/A", "?", "#REF!", "n/a", "########"])
    ),
}


def _write(random: Random, table: Written) -> str:
    """The text of a table, quoted as one of several programs does it."""
    text = io.StringIO(newline="")
    quoting = random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    writer = csv.writer(
        text, delimiter=table.separator, lineterminator=table.line_end, quoting=quoting
    )
    writer.writerows([HEADER, *table.rows])
    return text.getvalue()


def _in_a_line(change: Callable[[Random, str, Written], str]) -> Callable[[Random, Written], None]:
    def mutate(random: Random, table: Written) -> None:
        lines = table.text.split(table.line_end)
        at = random.randint(1, max(1, len(lines) - 2))
        lines[at] = change(random, lines[at], table)
        table.text = table.line_end.join(lines)

    return mutate


def _drop(random: Random, text: str, character: str) -> str:
    places = [at for at, c in enumerate(text) if c == character]
    if not places:
        return text
    at = random.choice(places)
    return text[:at] + text[at + 1 :]


def _blank_lines(random: Random, table: Written) -> None:
    lines = table.text.split(table.line_end)
    lines.insert(random.randrange(len(lines)), random.choice(["", "  ", table.separator * 4]))
    table.text = table.line_end.join(lines)


def _named_separator(random: Random, table: Written) -> None:
    table.text = f"sep={table.separator}{table.line_end}{table.text}"


LINES: dict[str, Callable[[Random, Written], None]] = {
    "quotation mark added": _in_a_line(lambda r, line, t: _insert(r, line, '"')),
    "two quotation marks added": _in_a_line(
        lambda r, line, t: _insert(r, _insert(r, line, '"'), '"')
    ),
    "quotation mark lost": _in_a_line(lambda r, line, t: _drop(r, line, '"')),
    "separator added": _in_a_line(lambda r, line, t: _insert(r, line, t.separator)),
    "separator lost": _in_a_line(lambda r, line, t: _drop(r, line, t.separator)),
    "another separator": _in_a_line(
        lambda r, line, t: line.replace(t.separator, r.choice([",", ";", "\t", "|", " "]))
    ),
    "line break": _in_a_line(lambda r, line, t: _insert(r, line, r.choice(["\n", "\r", "\r\n"]))),
    "control character": _in_a_line(
        lambda r, line, t: _insert(r, line, r.choice(["\0", "\x0b", "\x1a", "\x85", "\u2028"]))
    ),
    "blank line": _blank_lines,
    "separator named": _named_separator,
}


def _cut(random: Random, table: Written) -> None:
    """The file ends early, within a line."""
    codec = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}
    end = table.line_end.encode(codec.get(table.encoding, table.encoding))
    at = random.randint(len(table.content) // 3, len(table.content) - len(end) - 1)
    if not table.content[:at].endswith(end):  # nobody could see that
        table.content = table.content[:at]


def _mixed(random: Random, table: Written) -> None:
    """One line in another encoding."""
    lines = table.content.split(b"\n")
    at = random.randrange(len(lines))
    try:
        lines[at] = lines[at].decode("utf-8").encode("cp1252")
    except UnicodeError:
        return
    table.content = b"\n".join(lines)


BYTES: dict[str, Callable[[Random, Written], None]] = {"cut": _cut, "two encodings": _mixed}
MUTATIONS = {**CELLS, **LINES, **BYTES}
CELLS_MOVE = {"cell lost or added", "separator added", "separator lost"}


def mutated_table(
    random: Random, mutations: Sequence[str] | None = None
) -> tuple[Meant, bytes, list[str]]:
    """What a table means, how it was written after some mutations (None: one to three, drawn), and
    which these are."""
    meant, rows = draw_table(random)
    table = Written(
        rows,
        random.choice([",", ";", "\t", "|"]),
        random.choice(["\n", "\r\n", "\r"]),
        random.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-32", "mac_roman"]),
    )
    if table.encoding == "mac_roman":
        table.line_end = "\r"  # what "CSV (Macintosh)" writes, and how it is recognised
    elif table.encoding == "cp1252" and table.line_end == "\r":
        table.line_end = "\r\n"
    names = list(mutations or ())
    if mutations is None:
        names = random.sample(sorted(MUTATIONS), random.choice([1, 1, 2, 3]))
    if len(CELLS_MOVE.intersection(names)) > 1:
        names = names[:1]  # two can undo each other but for a value, which nobody could see
    for name, change in CELLS.items():  # in this order: what is no number is changed into none
        if name in names:
            change(random, table)
    table.text = _write(random, table)
    for name in names:
        if name in LINES:
            LINES[name](random, table)
    table.content = table.text.encode(table.encoding, "replace")
    for name in names:
        if name in BYTES:
            BYTES[name](random, table)
    return meant, table.content, names


def hospital(folder: Path) -> Site:
    """A site with the files of the tables, which are empty."""
    (folder / "images").mkdir(parents=True)
    for at in range(FILES):
        (folder / f"images/{at:04d}.png").touch()
    (folder / "site.toml").write_text('name = "x"\n')
    return open_site(folder, state=folder.parent / "state")


def verdict(site: Site, meant: Meant, content: bytes) -> str:
    """Read a table. Returns `read` if it says what was meant, `named` if what differs is named, and
    `refused` for an error that names a line or what is wrong with the whole file.

    Raises AssertionError if something was lost, merged, split or changed in silence.
    """
    site.cohort.write_bytes(content)
    try:
        table = read_table(site, ["label"], Pseudonyms.temporary())
    except SiteProblem as problem:
        if not re.search(r"\bline \d", str(problem)) and not _of_the_whole(str(problem)):
            raise AssertionError(f"names no line: {problem}") from problem
        return "refused"
    return _compared(table, meant)


def _of_the_whole(problem: str) -> bool:
    """Whether an error is about the whole file or its header, and says so."""
    return any(
        words in problem
        for words in ("its text is not in", "columns are [", "the table has no rows", "no row has")
    )


def _compared(table: CohortTable, meant: Meant) -> str:
    found = {f"images/{row.file.name}": row for row in table.rows if row.file is not None}
    unnamed_loss = set(meant.patients) - set(found)
    missing = [row for row in table.rows if row.file is None]
    named = bool(missing) or not table.ended
    assert len(unnamed_loss) <= len(missing) or not table.ended, f"lost: {unnamed_loss}"
    number_of: dict[int, set[str]] = {}
    for name, row in found.items():
        number_of.setdefault(meant.patients[name], set()).add(row.patient)
    cut = not table.ended
    assert cut or all(len(spelled) == 1 for spelled in number_of.values()), "a patient was split"
    merged = len({key for of in number_of.values() for key in of})
    assert cut or merged == len(number_of), "two patients were merged"
    for name, row in found.items():
        label = row.labels[0]
        said = "" if label != label else str(int(label))
        assert said == meant.labels[name] or cut, f"label of {name}"
    if not all(row.orders for row in found.values()):
        return "named"  # the name of the column was damaged; the check of the order lists patients
    by_place = sorted(found, key=lambda name: found[name].orders[0])
    assert cut or by_place == sorted(found, key=meant.places.__getitem__), "order"
    return "named" if named else "read"
