"""Reads outcomes: columns of 0, 1 and empty cells."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fedrad.client.problems import SiteProblem

from .cells import number
from .spreadsheet import Spreadsheet

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

WORDS = re.compile(
    "yes|no|true|false|ja|nein|nej|nei|nee|oui|non|y|n|j|t|f|x|pos|neg|positive|negative|[+-]"
    "|wahr|falsch|vrai|faux|sant|falskt|sand|falsk|waar|onwaar|verdadero|falso|kyllä|ei|si|sí|sì"
    r"|2|2[.,]0|[012] ?[-=:(].*",
    re.IGNORECASE,
)
"""What people and spreadsheets write for 1 and 0: words, 1 and 2, `1 = yes`."""
MISSING = re.compile(
    r"n/?a|nan|null|none|unknown|unbekannt|k\. ?a\.|[.?-]|-\d+([.,]0)?|9+([.,]0)?", re.I
)
"""What they write for an unknown outcome. It does not count in what a column mostly holds."""

SHOWN_VALUES = 6
"""Different values of a column that a message lists."""


@dataclass(frozen=True)
class ColumnNearlyOutcome:
    """A column that looks like an outcome and is none: it holds another value than 0, 1 and
    empty. `line`, `value`: where the first such value stands. `values`: value -> number of rows."""

    name: str
    line: int
    value: str
    values: Counter[str]

    def __str__(self) -> str:
        """Name, line, value and all values, for the site."""
        return (
            f"{self.name}: line {self.line}: {self.value!r} (all values: {_counted(self.values)})"
        )


def outcome_columns(
    sheet: Spreadsheet, known: Collection[int]
) -> tuple[list[str], list[ColumnNearlyOutcome]]:
    """The columns that are outcomes, and those that nearly are.

    Parameters
    ----------
    sheet
        The table.
    known
        Positions of the columns that have another meaning.

    Returns
    -------
    tuple
        Columns of 0, 1 and empty cells; and columns of which at least half of the values that are
        known are 0, 1 or words for them.

    Raises
    ------
    SiteProblem
        "outcome", if there is no outcome.
    """
    outcomes, nearly = list[str](), list[ColumnNearlyOutcome]()
    for at, name in enumerate(sheet.header):
        if at in known or name.casefold() in NOT_OUTCOMES:
            continue
        values = Counter(row[at] for row in sheet.rows if row[at])
        if not values:
            continue
        wrong = [value for value in values if number(value) not in (0.0, 1.0)]
        if not wrong:
            outcomes.append(name)
            continue
        near = sum(n for v, n in values.items() if v not in wrong or WORDS.fullmatch(v))
        known_values = sum(n for v, n in values.items() if not MISSING.fullmatch(v))
        if near and 2 * near >= known_values:
            nearly.append(_first_wrong(sheet, at, values, wrong))
    if not outcomes:
        found = "; ".join(map(str, nearly))
        found = f"Nearly one: {found}. Write 0 and 1" if nearly else f"Columns are {sheet.header}"
        raise SiteProblem(
            "outcome", f"{sheet.path}: no column holds an outcome (0, 1 or empty). {found}"
        )
    return outcomes, nearly


def labels(sheet: Spreadsheet, columns: Sequence[int]) -> list[tuple[float, ...]]:
    """The outcomes of each row: 0, 1 or NaN for an empty cell.

    Raises SiteProblem("cohort"), with the line, for any other value.
    """
    read = []
    for at in columns:
        values = Counter(row[at] for row in sheet.rows)
        known = {"": float("nan")}
        for value in values:
            if (as_number := number(value)) in (0.0, 1.0):
                known[value] = float(as_number)
        if wrong := [value for value in values if value not in known]:
            first = _first_wrong(sheet, at, values, wrong)
            raise SiteProblem(
                "cohort",
                f"{sheet.path}, line {first.line}: {first.name} = {first.value!r}; allowed are 0, "
                f"1 and empty. All its values: {_counted(values)}",
            )
        read.append([known[row[at]] for row in sheet.rows])
    return list(zip(*read, strict=True)) if read else [()] * len(sheet.rows)


def _first_wrong(
    sheet: Spreadsheet, at: int, values: Counter[str], wrong: Collection[str]
) -> ColumnNearlyOutcome:
    line, value = next(
        (line, row[at])
        for line, row in zip(sheet.lines, sheet.rows, strict=True)
        if row[at] in wrong
    )
    return ColumnNearlyOutcome(sheet.header[at], line, value, values)


def _counted(values: Counter[str]) -> str:
    """The values of a column with the number of their rows, the most frequent first."""
    shown = [f"{v!r} {n}" if v else f"empty {n}" for v, n in values.most_common(SHOWN_VALUES)]
    more = len(values) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
