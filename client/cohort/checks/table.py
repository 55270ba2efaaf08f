"""Checks of the table: its rows, patient numbers, outcomes, dates and the order of images."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from fedrad.client.cohort.cells import day
from fedrad.client.cohort.evidence import Evidence
from fedrad.client.cohort.groups import group_of
from fedrad.client.cohort.order import SERIAL_DATES, in_contradiction, order_images, ordered_by
from fedrad.client.cohort.table import CohortRow
from fedrad.client.cohort.units import of_patients, with_spellings
from fedrad.system.text import visible

from .check import Check, CheckFinding


class RepeatedRows(Check[Evidence]):
    """Rows that repeat another row."""

    name = "repeated rows"
    problem = "A row that stands twice counts once; it hints at a faulty export of the table."
    remedy = "Remove the repetition."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding with all repeated rows."""
        if subject.table.repeated:
            yield CheckFinding(
                f"{len(subject.table.repeated)} rows repeat another row",
                [(f"{row}: {why}",) for row, why in subject.table.repeated.items()],
            )


class WholeTable(Check[Evidence]):
    """Whether all rows of the table arrived."""

    name = "rows of the table"
    problem = "A table that was cut while it was copied lacks patients."
    remedy = "Compare these numbers with the original table."
    severity = "information"

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """The numbers of rows and patients, whether the last line has an end, and how many files
        beside those of the table stand in no row."""
        yield CheckFinding(subject.table.counted())
        if not subject.table.ended:
            yield CheckFinding(
                "the last line of the table has no end: see whether the table is whole"
            )
        if unlisted := _unlisted(subject.table.rows):
            # Those who withdrew are among them, and are not to be shown.
            shown = [] if subject.table.withdrawn_rows else unlisted[:SHOWN_FILES]
            yield CheckFinding(
                f"{len(unlisted)} files of the same kind lie beside those of the table and stand "
                "in no row of a patient who takes part",
                [(visible(file.name),) for file in shown],
            )


SHOWN_FILES = 10
"""Files in no row of the table that are listed."""


def _unlisted(rows: Sequence[CohortRow]) -> list[Path]:
    """Files in the folders of the rows' files, with an extension of these, that are in no row."""
    listed = {row.file for row in rows if row.file is not None}
    kinds = {file.suffix.casefold() for file in listed}
    unlisted = []
    for folder in {file.parent for file in listed}:
        with suppress(OSError):  # a folder that may be entered and not listed
            unlisted += [
                file
                for file in folder.iterdir()
                if file.suffix.casefold() in kinds and file not in listed and file.is_file()
            ]
    return sorted(unlisted)


class PatientNumbers(Check[Evidence]):
    """Patient numbers in several spellings, and those that may be none."""

    name = "patient numbers"
    problem = (
        "A patient with two numbers can be trained on and tested on; two patients with one number "
        "count as one."
    )
    remedy = "Correct the column of patients in the original table, and export it again as text."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding for each kind of doubt."""
        numbers = subject.table.numbers
        several = [sorted(cells) for cells in numbers.spelled.values() if len(cells) > 1]
        if several:
            yield CheckFinding(
                f"{len(several)} patients have a number in several spellings; each counts as one "
                "patient",
                [tuple(map(ascii, cells)) for cells in several],
                severity="information",
            )
        if numbers.alike:
            yield CheckFinding(
                f"{len(numbers.alike)} numbers have another that differs only in case, zeros, "
                "punctuation, century or letters before it; by site.toml they are different "
                "patients",
                [tuple(map(ascii, group)) for group in numbers.alike],
                severity="information",
            )
        if numbers.like_dates:
            yield CheckFinding(
                f"{len(numbers.like_dates)} numbers look like dates: spreadsheets turn 3-4 into a "
                "date, and two numbers may have become one",
                [(ascii(number),) for number in numbers.like_dates],
            )
        if numbers.like_visits:
            yield CheckFinding(
                f"{len(numbers.like_visits)} groups of numbers differ only in one or two digits at "
                "the end: are these visits of one patient?",
                [tuple(map(ascii, group)) for group in numbers.like_visits],
            )
        if numbers.frequent:
            number, rows = numbers.frequent
            yield CheckFinding(
                f"one number stands in {rows} of {subject.table.file_rows} rows: is it a "
                "placeholder for patients without a number?",
                [(ascii(number),)],
            )
        if numbers.like_placeholders:
            yield CheckFinding(
                f"{len(numbers.like_placeholders)} numbers may be words or codes for patients "
                "without a number; all rows with one of them count as one patient",
                [(ascii(number),) for number in numbers.like_placeholders],
            )


class NearlyOutcomes(Check[Evidence]):
    """Columns that look like outcomes and hold other values."""

    name = "columns that are nearly outcomes"
    problem = "A column with a value other than 0, 1 and empty is not read as an outcome."
    remedy = "If it is an outcome, write 0, 1 or nothing in all its cells."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding per column: the first such value with its line, and all values."""
        for column in subject.table.nearly_outcomes:
            yield CheckFinding(str(column))


class FileNames(Check[Evidence]):
    """Files whose names the table spells otherwise than the disk."""

    name = "spelling of file names"
    problem = "The table and the disk spell the names of these files differently."
    remedy = "Nothing: for each of them only one file fits, and it was used."
    severity = "information"

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding with all these files."""
        if subject.table.respelled:
            yield CheckFinding(
                f"{len(subject.table.respelled)} files were found under another spelling (case, "
                "Unicode form or encoding)",
                [(f"{name}: {on_disk}",) for name, on_disk in subject.table.respelled.items()],
            )


class ValuesInNoGroup(Check[Evidence]):
    """Values that fit no group for which an experiment asks for figures."""

    name = "groups of patients"
    problem = "Patients whose value fits no group are in no figure of the groups."
    remedy = "Correct the values, or tell the coordinator which groups are missing."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding per column, with the first line and value; empty cells do not count."""
        for column, groups in subject.groups.items():
            rows = with_spellings(subject.table.rows, [column])
            values = [row.values.get(column, "") for row in rows]
            outside = [
                (row.line, value)
                for row, value, group in zip(rows, values, group_of(values, groups), strict=True)
                if value and group < 0
            ]
            if outside:
                line, value = min(outside)
                yield CheckFinding(
                    f"{len(outside)} values of {column} are in no group; the first is in line "
                    f"{line}: {value!r}"
                )


class UnorderedImages(Check[Evidence]):
    """Patients of whose images it is unknown which is the earliest, or the latest."""

    name = "order of a patient's images"
    problem = (
        "Where nothing tells which image was first, the one that stands for the patient may be a "
        "follow-up image that already shows the outcome."
    )
    remedy = (
        "Fill in a column order_index, day_offset, day or date for these images, with the time of "
        'day where there are several a day. Or leave these patients out: unordered = "left out" in '
        "site.toml. Of columns that contradict each other the first decides: correct them, or name "
        "the right one as order under [columns]."
    )

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding for images without any order, one for images at equal places, and one for
        those that two columns order in opposite ways."""
        several = [rows for rows in of_patients(subject.table.rows) if len(rows) > 1]
        tied = [tied for rows in several if (tied := order_images(rows, subject.rule).tied)]
        without = [rows for rows in tied if not ordered_by(rows)]
        equal = [rows for rows in tied if ordered_by(rows)]
        left_out = "; they are left out" if subject.unordered else ""
        for groups, what in (
            (without, "have no order"),
            (equal, f"have images at equal places, so that the {subject.rule} is unknown"),
        ):
            if groups:
                yield CheckFinding(
                    f"{len(groups)} of {len(several)} patients with several images {what}"
                    f"{left_out}",
                    [tuple(f"{row.name}: line {row.line}" for row in rows) for rows in groups],
                )
        if opposite := [rows for rows in several if in_contradiction(rows)]:
            yield CheckFinding(
                f"{len(opposite)} of {len(several)} patients with several images have them in one "
                "order by one column and in another by another",
                [tuple(f"{row.name}: line {row.line}" for row in rows) for rows in opposite],
            )


class UnreadDates(Check[Evidence]):
    """Dates that cannot be read."""

    name = "dates"
    problem = "What a date would show, such as an image taken after the outcome, is not seen."
    remedy = "Write dates as YYYY-MM-DD, with or without a time as HH:MM."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding per column, with the first line and value."""
        unread = defaultdict[str, list[tuple[int, str]]](list)
        columns = ("date", "outcome_date", *(f"{o}_date" for o in subject.table.outcomes))
        for row in subject.table.rows:
            for column in columns:
                text = row.values.get(column, "")
                if text and day(text) is None:
                    unread[column].append((row.line, text))
        for column, cells in unread.items():
            line, text = min(cells)
            serial = text.isdecimal() and int(text) in SERIAL_DATES
            hint = " (perhaps the serial number by which a spreadsheet stores a date)"
            yield CheckFinding(
                f"{len(cells)} cells of {column} are no date; the first is in line {line}: "
                f"{text!r}{hint if serial else ''}"
            )
