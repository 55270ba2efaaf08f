"""What is in a cell of a table: a number, a day, a time of day, an age."""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from math import isfinite

_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?", re.ASCII)
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(:(?P<second>\d\d)([.,]\d+)?)?"
_ZONE = r"(?P<zone>Z|[+-]\d\d:?\d\d)?"
_DAYS = (
    r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})",
    r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})",
    r"(?P<year>(19|20)\d\d)(?P<month>\d\d)(?P<day>\d\d)",
)
_MOMENTS = [re.compile(rf"{day}((T|\s+){_CLOCK}\s*{_ZONE})?", re.ASCII) for day in _DAYS]
_COMPACT_MOMENT = re.compile(rf"{_DAYS[2]}(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)", re.ASCII)
_COMPACT_CLOCK = re.compile(r"(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)?(\.\d+)?", re.ASCII)
_AGE = re.compile(r"(\d{3})([DWMY])", re.ASCII | re.IGNORECASE)

YEARS = range(1901, 2100)
"""Years of dates. Others are placeholders, such as 1900-01-01 and 9999-12-31."""

YEARS_PER_UNIT = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
"""Length of the units of a DICOM age string (PS3.5, 6.2, AS) in years."""


@dataclass(frozen=True)
class Moment:
    """A day, perhaps with a time of day.

    `at`: days since 0001-01-01, with the time as a fraction; in UTC if the cell states a time
    zone. `zoned`: whether it does. `timed`: whether the cell states a time; midnight to the second
    is what spreadsheets add to a day, and counts as no time.
    """

    day: date
    at: float
    timed: bool
    zoned: bool


def number(text: str) -> float | None:
    """A number with a decimal point or comma; None for anything else, such as `nan` or `1_0`."""
    plain = text.strip().replace("\N{MINUS SIGN}", "-")
    if not _NUMBER.fullmatch(plain):
        return None
    value = float(plain.replace(",", "."))
    return value if isfinite(value) else None


def moment(text: str) -> Moment | None:
    """The moment of YYYY-MM-DD, YYYY/MM/DD, YYYYMMDD or DD.MM.YYYY, with or without a time after
    it (`T` or blanks, then HH:MM, HH:MM:SS or with a fraction, and a time zone), or of the 14
    digits of a DICOM date and time.

    None for anything else, for days that do not exist, and for days and months with slashes:
    3/4/2024 may be in March or in April.
    """
    plain = " ".join(text.split())  # blanks of every kind
    found = next((m for one in _MOMENTS if (m := one.fullmatch(plain))), None)
    found = found or _COMPACT_MOMENT.fullmatch(plain)
    if found is None or int(found["year"]) not in YEARS:
        return None
    try:
        day = date(int(found["year"]), int(found["month"]), int(found["day"]))
    except ValueError:
        return None
    seconds = _seconds(found) if found["hour"] else 0.0
    if seconds is None:
        return None
    at = day.toordinal() + seconds / 86400
    zone = found.groupdict().get("zone")
    if zone and zone != "Z":
        east = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
        at -= (1 if zone[0] == "+" else -1) * east.total_seconds() / 86400
    return Moment(day, at, timed=seconds > 0 or bool(zone), zoned=bool(zone))


def day(text: str) -> date | None:
    """The day of a moment (see `moment`); None for anything else."""
    known = moment(text)
    return known.day if known else None


def time_of_day(text: str) -> float | None:
    """Seconds since midnight of HH:MM, HH:MM:SS, or of a DICOM time (HHMM, HHMMSS, with or without
    a fraction); None for anything else."""
    found = re.fullmatch(_CLOCK, text.strip(), re.ASCII) or _COMPACT_CLOCK.fullmatch(text.strip())
    return _seconds(found) if found else None


def age(text: str) -> float | None:
    """A number, or the years of a DICOM age string such as `045Y`, `018M`, `003W` or `010D`; None
    for anything else."""
    if written := _AGE.fullmatch(text.strip()):
        return int(written[1]) * YEARS_PER_UNIT[written[2].upper()]
    return number(text)


def is_age_string(text: str) -> bool:
    """Whether a cell holds an age as DICOM writes it, with its unit."""
    return _AGE.fullmatch(text.strip()) is not None


def _seconds(found: re.Match[str]) -> float | None:
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
    if hour > 23 or minute > 59 or second > 60:
        return None
    fraction = re.search(r"[.,](\d+)\s*(Z|[+-]\d\d:?\d\d)?$", found[0])
    rest = float(f"0.{fraction[1]}") if fraction and found["second"] else 0.0
    return 3600.0 * hour + 60.0 * minute + second + rest
