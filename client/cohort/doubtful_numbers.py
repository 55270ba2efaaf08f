"""Patient numbers that may be none, or not of one patient: what a person should look at."""

import re
from collections import defaultdict
from collections.abc import Iterable

_MONTH = (
    r"(jan|feb|mar|mär|mrz|apr|may|mai|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez"
    r"|janv|févr|fevr|mars|avr|juin|juil|août|aout|déc|maj|mei|mrt|ene|abr|ago|dic|gen|mag|giu|lug"
    r"|set|ott)\.?"
)
"""Of English, German, French, the Nordic languages, Dutch, Spanish and Italian."""
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d( 00:00(:00)?)?"
    rf"|\d{{1,2}}[-. ]{{1,2}}{_MONTH}([-. ]+\d{{2,4}})?"
    rf"|{_MONTH}[-. ]+\d{{2,4}}"
    r"|\d{1,2}[./]\d{1,2}[./]\d{4}",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"0+|9{2,}|-\d+", re.ASCII)
_VISIT = re.compile(r"(.+?)[-_./ ]+[A-Z]{0,2}\d{1,2}", re.ASCII | re.IGNORECASE)
LARGEST_SHARE_OF_PLACEHOLDERS = 0.2
"""Of all numbers; if more of them look so, numbers are of this kind here."""
EXACT_DIGITS = 15
"""Decimal digits that a spreadsheet keeps of a number."""
MOST_VISITS = 5
"""Most visits of a patient on average; more would be something else, such as patients of wards."""


def rounded(numbers: Iterable[str]) -> list[str]:
    """Numbers of more than EXACT_DIGITS digits, if all of these end in zeros from there on: a
    spreadsheet has rounded them, and two patients may have become one. [] otherwise."""
    long = [n for n in numbers if n.isdecimal() and len(n) > EXACT_DIGITS]
    cut = [n for n in long if not n[EXACT_DIGITS:].strip("0")]
    return cut if len(cut) == len(long) else []


def like_dates(numbers: Iterable[str]) -> list[str]:
    """Numbers that look like a date, if not all do: spreadsheets turn 3-4 or MAR4 into one."""
    everything = list(dict.fromkeys(numbers))
    dates = [n for n in everything if _DATE.fullmatch(n)]
    return dates if len(dates) < len(everything) else []


def like_placeholders(numbers: Iterable[str]) -> list[str]:
    """Numbers that may stand for no patient: 0, -9 and 999 without a neighbour (998), and words
    where nearly all others have digits and no other number has this length."""
    everything = list(dict.fromkeys(numbers))
    counted = {int(number) for number in everything if number.isdecimal()}
    codes = [
        number
        for number in everything
        if _PLACEHOLDER.fullmatch(number) and not {int(number) - 1, int(number) + 1} & counted
    ]
    with_digits = [number for number in everything if any(map(str.isdecimal, number))]
    lengths = set(map(len, with_digits))
    words = [
        number
        for number in set(everything).difference(with_digits)
        if len(number) not in lengths or not number.isalpha()
    ]
    few = LARGEST_SHARE_OF_PLACEHOLDERS * len(everything)
    return sorted(one for found in (codes, words) if len(found) <= few for one in found)


def like_visits(numbers: Iterable[str]) -> list[list[str]]:
    """Groups of numbers that differ only in one or two digits at the end, after punctuation: P17_1
    and P17_2 may be two visits of one patient. [] if most numbers are not of such a group."""
    groups: dict[str, list[str]] = defaultdict(list)
    everything = list(dict.fromkeys(numbers))
    for number in everything:
        if stem := _VISIT.fullmatch(number):
            groups[stem[1]].append(number)
    visits = [group for group in groups.values() if len(group) > 1]
    members = sum(map(len, visits))
    if len(visits) < 2 or 2 * members < len(everything) or members > MOST_VISITS * len(visits):
        return []
    return visits
