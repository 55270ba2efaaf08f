"""The order of a patient's images: by numbers, days or times of day, which are never mixed."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import floor, isnan, nan
from typing import TYPE_CHECKING, Literal

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import ORDER_COLUMNS, Columns

from .cells import moment, number, time_of_day
from .spreadsheet import Spreadsheet

if TYPE_CHECKING:
    from .table import CohortRow

IndexRule = Literal["earliest", "latest", "all"]
Kind = Literal["a number", "a date", "a date with a time zone"]

_THOUSANDS = re.compile(r"[1-9]\d{0,2}[.,]\d{3}", re.ASCII)
_DECIMAL = re.compile(r"\d+[.,]\d+", re.ASCII)
_COMPACT_TIME = re.compile(r"(\d+)([.]\d+)?", re.ASCII)

SERIAL_DATES = range(20_000, 60_000)
"""Days since 1900 by which spreadsheets store the dates of 1954 to 2064."""


def order_columns(sheet: Spreadsheet, columns: Columns) -> list[int]:
    """Positions of the columns that order a patient's images, the most important first."""
    names = [columns.order] if columns.order else list(ORDER_COLUMNS)
    return [at for name in names if (at := sheet.find(name)) is not None]


def orders(
    sheet: Spreadsheet, columns: Columns, patients: Sequence[str]
) -> list[tuple[float, ...]]:
    """The place of each row in its patient's order, for each order column; NaN for an empty cell.

    Where one image of a patient has a day only and another of the same day has a time, all of that
    day have the same place: it is unknown which was first.

    Parameters
    ----------
    sheet
        The n rows.
    columns
        Names of the columns of order, date and time.
    patients
        Patient of each row, (n,).

    Returns
    -------
    list[tuple[float, ...]]
        Per row: numbers as they are; dates as days, with the time of day as a fraction.

    Raises
    ------
    SiteProblem
        "cohort", with the line, for a cell that is neither, and for a column that holds both:
        serial numbers of a spreadsheet and dates cannot be compared.
    """
    time_at = sheet.find(columns.time) if columns.time else None
    read = []
    for at in order_columns(sheet, columns):
        _refuse_thousands(sheet, at)
        clock = time_at if sheet.find(columns.date) == at else None
        places = _column(sheet, at, clock)
        _forget_times_of_mixed_days(places, patients)
        read.append([place.at for place in places])
    return list(zip(*read, strict=True)) if read else [()] * len(sheet.rows)


@dataclass
class _Place:
    """`day_only`: whether a date without a time of day."""

    at: float
    day_only: bool = False


def _column(sheet: Spreadsheet, at: int, clock: int | None) -> list[_Place]:
    """The places of a column. `clock`: position of the column of the times of day, if any."""
    if clock is not None:
        _refuse_lost_zeros(sheet, clock)
    first: tuple[Kind, int] | None = None
    places = []
    for line, row in zip(sheet.lines, sheet.rows, strict=True):
        what = f"{sheet.path}, line {line}: {sheet.header[at]} = {row[at]!r}"
        if not row[at]:
            places.append(_Place(nan))
            continue
        kind, place = _place(row[at], what)
        first = first or (kind, line)
        if kind != first[0]:
            serial = kind == "a number" and place.at in SERIAL_DATES
            hint = " (perhaps the serial number by which a spreadsheet stores a date)"
            raise SiteProblem(
                "cohort",
                f"{what} is {kind}{hint if serial else ''}, and line {first[1]} holds {first[0]}; "
                "they cannot be compared: write all as YYYY-MM-DD, or all as numbers",
            )
        if clock is not None and row[clock] and place.day_only:
            seconds = time_of_day(row[clock])
            if seconds is None:
                raise SiteProblem(
                    "cohort",
                    f"{sheet.path}, line {line}: {sheet.header[clock]} = {row[clock]!r}; write a "
                    "time of day as HH:MM or HH:MM:SS",
                )
            place = _Place(place.at + seconds / 86400)
        places.append(place)
    return places


def _refuse_lost_zeros(sheet: Spreadsheet, at: int) -> None:
    """Raise SiteProblem for a time such as 1500 among others of six digits, as DICOM writes them:
    it may be 15:00, or 00:15:00 without its zeros, which a spreadsheet took away."""
    times = [(line, row[at]) for line, row in zip(sheet.lines, sheet.rows, strict=True)]
    compact = [(line, text, m[1]) for line, text in times if (m := _COMPACT_TIME.fullmatch(text))]
    short = [(line, text) for line, text, digits in compact if len(digits) < 6]
    if short and len(short) < len(compact):
        line, text = short[0]
        raise SiteProblem(
            "cohort",
            f"{sheet.path}, line {line}: {sheet.header[at]} = {text!r}, and other times have six "
            "digits: a spreadsheet may have taken zeros from its start; write a time of day as "
            "HH:MM or HH:MM:SS",
        )


def _refuse_thousands(sheet: Spreadsheet, at: int) -> None:
    """Raise SiteProblem for a number such as 45,306, which may be 45306 or 45.306, unless other
    numbers of the column show that the mark is a decimal one."""
    cells = [(line, row[at]) for line, row in zip(sheet.lines, sheet.rows, strict=True)]
    doubtful = [(line, text) for line, text in cells if _THOUSANDS.fullmatch(text)]
    decimal = any(_DECIMAL.fullmatch(text) and not _THOUSANDS.fullmatch(text) for _, text in cells)
    if doubtful and not decimal:
        line, text = doubtful[0]
        raise SiteProblem(
            "cohort",
            f"{sheet.path}, line {line}: {sheet.header[at]} = {text!r} may mean "
            f"{re.sub('[.,]', '', text)} or {text.replace(',', '.')}; write numbers without a mark "
            "for thousands",
        )


def _place(text: str, what: str) -> tuple[Kind, _Place]:
    if (known := moment(text)) is not None:
        kind: Kind = "a date with a time zone" if known.zoned else "a date"
        return kind, _Place(known.at, day_only=not known.timed)
    if (value := number(text)) is not None:
        return "a number", _Place(value)
    raise SiteProblem(
        "cohort",
        f"{what}; write a number, or a date as YYYY-MM-DD with or without a time as HH:MM",
    )


def _forget_times_of_mixed_days(places: Sequence[_Place], patients: Sequence[str]) -> None:
    days: dict[tuple[str, int], list[_Place]] = defaultdict(list)
    for place, patient in zip(places, patients, strict=True):
        if not isnan(place.at):
            days[patient, floor(place.at)].append(place)
    for of_day in days.values():
        if any(place.day_only for place in of_day):
            for place in of_day:
                place.at = float(floor(place.at))


@dataclass(frozen=True)
class OrderedImages:
    """The images of one patient in their order. `chosen`: those that represent the patient.
    `tied`: images among which the chosen one could not be told; [] if it could, and for the rule
    `all`, which needs no order."""

    chosen: "list[CohortRow]"
    tied: "list[CohortRow]"


def ordered_by(images: "Sequence[CohortRow]") -> list[int]:
    """The order columns that are filled in for all of these images."""
    return [
        at
        for at in range(len(images[0].orders))
        if not any(isnan(image.orders[at]) for image in images)
    ]


def in_contradiction(images: "Sequence[CohortRow]") -> bool:
    """Whether two of the columns that are filled in for all of these images order them in opposite
    ways: one column says that an image was earlier, the other that it was later."""
    complete = ordered_by(images)
    for one, other in combinations(complete, 2):
        places = sorted((image.orders[one], image.orders[other]) for image in images)
        if any(before > after for (_, before), (_, after) in pairwise(places)):
            return True
    return False


def order_images(images: "Sequence[CohortRow]", rule: IndexRule) -> OrderedImages:
    """Order the images of one patient by the columns that are filled in for all of them: by the
    first column, where that is equal by the next, and so on. Images of equal places, and those
    without any such column, are ordered by their place in the table and by name."""
    complete = ordered_by(images)

    def place(image: "CohortRow") -> tuple[float, ...]:
        return tuple(image.orders[at] for at in complete)

    if not complete:
        ordered = sorted(images, key=lambda image: (image.line, image.name))
    else:
        ordered = sorted(images, key=lambda image: (place(image), image.name))
    if rule == "all":
        return OrderedImages(ordered, [])
    chosen = ordered[-1 if rule == "latest" else 0]
    tied = [image for image in ordered if place(image) == place(chosen)]
    return OrderedImages([chosen], tied if len(tied) > 1 else [])
