"""The patient numbers of a table: checked cell by cell, and compared with each other."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from fedrad.client.problems import SiteProblem

from .doubtful_numbers import like_dates, like_placeholders, like_visits, rounded
from .spelling import Spelling, alike_numbers, bare, patient_number, perhaps_one
from .spreadsheet import Spreadsheet

SHOWN_GROUPS = 3
"""Groups of spellings that an error names."""


@dataclass(frozen=True)
class ListedNumbers:
    """The patient numbers of a table.

    Attributes
    ----------
    numbers
        Number of each row, by the site's rule of spelling.
    spelled
        Number -> its spellings in the cells, with and without characters that cannot be seen.
    alike
        Groups of numbers that could be one and are not, because the site says so.
    like_dates
        Numbers that look like dates, if others do not.
    like_placeholders
        Numbers that may stand for patients without a number.
    like_visits
        Groups of numbers that may be visits of one patient.
    frequent
        The number that stands in many more rows than a patient has images, if there is one, with
        its number of rows.
    """

    numbers: Sequence[str] = ()
    spelled: Mapping[str, frozenset[str]] = field(default_factory=dict)
    alike: Sequence[Sequence[str]] = ()
    like_dates: Sequence[str] = ()
    like_placeholders: Sequence[str] = ()
    like_visits: Sequence[Sequence[str]] = ()
    frequent: tuple[str, int] | None = None

    @classmethod
    def read(cls, sheet: Spreadsheet, column: int, rule: Spelling | None) -> Self:
        """The numbers in a column of a table.

        Parameters
        ----------
        sheet, column
            The table and the position of the column.
        rule
            Whether numbers that could be spellings of one number are one patient. None: the site
            has not said, and they are refused.

        Raises
        ------
        SiteProblem
            "cohort", with the line, for a cell that is no patient number; for numbers that a
            spreadsheet has rounded; and for numbers that may be one, if the site has not said.
        """
        exact = [
            _number(sheet, line, row[column])
            for line, row in zip(sheet.lines, sheet.rows, strict=True)
        ]
        numbers = exact
        if len(cut := rounded(dict.fromkeys(numbers))) > 1:
            raise SiteProblem(
                "cohort",
                f"{sheet.path}, line {_line(sheet, numbers, cut[0])}: {cut[0]} and all other long "
                "patient numbers end in zeros: a spreadsheet has rounded them. Format the column "
                "as text in the original table and export it again",
            )
        alike = alike_numbers(numbers)
        if alike and rule is None:
            _refuse_alike(sheet, numbers, alike)
        other_forms = perhaps_one(numbers)
        if other_forms and rule != "exact":
            _refuse_other_forms(sheet, numbers, other_forms)
        if rule == "digits":
            numbers, alike = [bare(number) for number in exact], []
        spelled = defaultdict[str, set[str]](set)
        rows = Counter(numbers)
        for number, written, row in zip(numbers, exact, sheet.rows, strict=True):
            spelled[number] |= {row[column], written}
        return cls(
            numbers,
            {number: frozenset(cells) for number, cells in spelled.items()},
            [*alike, *other_forms],
            like_dates(exact),
            like_placeholders(exact),
            like_visits(exact),
            _frequent(rows),
        )


def _number(sheet: Spreadsheet, line: int, cell: str) -> str:
    try:
        return patient_number(cell)
    except ValueError as error:
        raise SiteProblem(
            "cohort", f"{sheet.path}, line {line}: the patient number {error}"
        ) from None


def _line(sheet: Spreadsheet, numbers: Sequence[str], number: str) -> int:
    return sheet.lines[numbers.index(number)]


def _named(sheet: Spreadsheet, numbers: Sequence[str], groups: Sequence[Sequence[str]]) -> str:
    """The first groups of spellings, with the lines where they stand."""
    named = "; ".join(
        " and ".join(f"{number!r} (line {_line(sheet, numbers, number)})" for number in group)
        for group in groups[:SHOWN_GROUPS]
    )
    more = f", and {len(groups) - SHOWN_GROUPS} more" if len(groups) > SHOWN_GROUPS else ""
    return named + more


def _refuse_alike(
    sheet: Spreadsheet, numbers: Sequence[str], groups: Sequence[Sequence[str]]
) -> None:
    raise SiteProblem(
        "cohort",
        f"{sheet.path}: {len(groups)} patient numbers are written in several ways: "
        f"{_named(sheet, numbers, groups)}. "
        "If these are the same patients, correct the table, or write patient_numbers = "
        '"digits" in site.toml, by which case, leading zeros, .0 and punctuation do not count; '
        'if they are different patients, write patient_numbers = "exact". Otherwise a patient '
        "could be both trained on and tested on",
    )


def _refuse_other_forms(
    sheet: Spreadsheet, numbers: Sequence[str], groups: Sequence[Sequence[str]]
) -> None:
    raise SiteProblem(
        "cohort",
        f"{sheet.path}: {len(groups)} patient numbers stand with and without punctuation, century "
        f"or letters before them: {_named(sheet, numbers, groups)}. If these are the same "
        "patients, write each number in one way in the table; if they are different patients, "
        'write patient_numbers = "exact" in site.toml. Otherwise a patient could be both trained '
        "on and tested on",
    )


LARGEST_SHARE, FEWEST_ROWS, FEWEST_PATIENTS = 0.2, 20, 10
"""A number that stands in more than this share of the rows, and in this many, may be a placeholder;
asked only of tables with this many patients."""


def _frequent(rows: Mapping[str, int]) -> tuple[str, int] | None:
    number, most = max(rows.items(), key=lambda item: item[1])
    few = len(rows) < FEWEST_PATIENTS or most < FEWEST_ROWS
    return None if few or most <= LARGEST_SHARE * sum(rows.values()) else (number, most)
