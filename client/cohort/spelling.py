"""What is a patient number, and which spellings can be one number.

Spreadsheets add and lose characters: 00012 becomes 12 or 12.0, 1002003004000 becomes 1.00200E+12.
A patient whose number is written in two ways would be two patients, of whom one is trained on and
the other tested; two patients whose numbers became equal would be one.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

Spelling = Literal["exact", "digits"]
"""`exact`: numbers that are spelled differently are different patients. `digits`: they are one
patient if they differ only in what `bare` takes away."""

NO_NUMBERS = re.compile(
    r"nan|none|null|nil|na|n/a|n\.a\.?|nd|missing|unknown|unbekannt|unbek\.?|inconnu|tbd|tba|todo"
    r"|anonym|anonymous|anonymi[sz]ed|anonymisiert|xx+|test|true|false"
    r"|k\.a\.|o\.a\.|fehlt|fehlend|manquant|ok[äa]nd|saknas|ukendt|ukjent|mangler|tuntematon|puuttuu"
    r"|onbekend|ontbreekt|desconocido|sconosciuto|mancante|desconhecido"
    r"|ditto|dito|idem|ebenso|seeabove|sameasabove|asabove|s\.o\.|sieheoben|voirci-dessus"
    r"|totals?|totalt|sum|summe|summa|gesamt|gesamtsumme|somme|totale|suma",
    re.IGNORECASE,
)
"""Cells, without blanks, that stand for no patient, for the one above, or for a sum."""
_SCIENTIFIC = re.compile(
    r"\d+([.,]\d+)?E\+\d+|\d+[.,]\d+E-?\d+",  # 3E-1024 is patient 1024 of ward 3E
    re.ASCII | re.IGNORECASE,
)
_SPREADSHEET_ERROR = re.compile(r"#(N/?A|REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!|WERT!|BEZUG!|#+)?")
_DECIMALS = re.compile(r"(?<=\d)[.,]0+$", re.ASCII)
_MARKS = frozenset(" -–_./\\:#+*()[]{}&@'’")
"""What numbers may hold besides letters and digits. Others, such as `?`, `"`, `=` and separators,
are what programs leave in a damaged number."""
_SAME_LOOKS = str.maketrans("аеорсхукмтвніαβεζηικμνορτυχ", "aeopcxykmtbhiabezhikmvoptyx")
"""Small letters of Cyrillic and Greek -> those of Latin whose capitals look the same."""
_BIRTH_DATE = re.compile(r"(18|19|20)\d\d(0[1-9]|1[0-2])\d\d[^\W_]{4}", re.ASCII)
"""A Nordic number with the century of the year of birth, without punctuation."""
_LETTERS_FIRST = re.compile(r"[^\W\d_]+(?=\d+$)")
_RUNS = re.compile(r"\d+|[^\W\d_]+")
FEWEST_DIGITS = 6
"""Numbers with fewer digits are equal by chance, if something is taken away from them."""


def patient_number(cell: str) -> str:
    """The patient number in a cell.

    Characters that cannot be seen are taken away, all kinds of blanks are one blank, and letters
    have their composed Unicode form (NFC): what looks the same is the same number.

    Raises
    ------
    ValueError
        If the cell holds no patient number; the text completes the sentence "the patient number …".
    """
    shown = "".join(c for c in cell if unicodedata.category(c) != "Cf")
    number = unicodedata.normalize("NFC", " ".join(shown.split()))
    if not number:
        raise ValueError("is empty")
    word = _DECIMALS.sub("", "".join(number.lstrip("'’ ").split()))
    if _SCIENTIFIC.fullmatch(word):
        raise ValueError(
            f"{cell!r} is in scientific notation, which a spreadsheet made of a long number: its "
            "last digits are lost. Format the column as text in the original table and export it "
            "again"
        )
    if _SPREADSHEET_ERROR.fullmatch(word):
        raise ValueError(f"{cell!r} is an error of the spreadsheet, not a number")
    if NO_NUMBERS.fullmatch(word.lstrip("0")) or not _RUNS.search(number):
        raise ValueError(
            f"{cell!r} names no patient; write the number, or take the row out of the table"
        )
    foreign = [c for c in number if c not in _MARKS and unicodedata.category(c)[0] not in "LMN"]
    if foreign:
        raise ValueError(
            f"{cell!r} holds {foreign[0]!r}, which is no part of a patient number: the table was "
            "damaged, or the column is not plain text; export it again"
        )
    return number


def read_number(cell: str, rule: Spelling | None) -> str:
    """The patient number in a cell, or in what a person typed, by a site's rule. Raises ValueError
    as `patient_number`."""
    number = patient_number(cell)
    return bare(number) if rule == "digits" else number


def bare(number: str) -> str:
    """A patient number without case, alphabets of the same looks, blanks, punctuation and accents'
    forms, leading zeros, and the `.0` of a number. Numbers with the same `bare` can be spellings of
    one number.

    Punctuation between two digits stays as `-`, since 1-23 and 12-3 are two numbers.
    """
    plain = "".join(unicodedata.normalize("NFKC", number).casefold().split())
    plain = plain.translate(_SAME_LOOKS)
    plain = _DECIMALS.sub("", plain)
    runs = [_without_zeros(run) if run.isdecimal() else run for run in _RUNS.findall(plain)]
    if len(runs) > 1 and runs[0] == "0":
        del runs[0]
    text = "".join(runs[:1])
    for before, run in pairwise(runs):
        text += f"-{run}" if before.isdecimal() and run.isdecimal() else run
    return text


def _without_zeros(digits: str) -> str:
    """Decimal digits of any script in ASCII, without leading zeros."""
    return "".join(str(unicodedata.digit(c)) for c in digits).lstrip("0") or "0"


def alike_numbers(numbers: Iterable[str]) -> list[list[str]]:
    """Groups of two or more numbers that can be spellings of one number, each group sorted."""
    groups: dict[str, set[str]] = defaultdict(set)
    for number in numbers:
        groups[bare(number)].add(number)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def perhaps_one(numbers: Iterable[str]) -> list[list[str]]:
    """Groups of numbers that may be one in forms that `bare` keeps apart, each group sorted.

    A number can stand with and without the punctuation between its digits (010203-1234,
    0102031234), the century of the date of birth in it (20010203-1234), and letters before it
    (KH001234). 1-23456 and 12-3456 are two numbers.
    """
    every = {number: _joined(number) for number in numbers}
    by_joined: dict[str, set[str]] = defaultdict(set)
    for number, joined in every.items():
        by_joined[joined.lstrip("0")].add(number)
    groups = set[frozenset[str]]()
    for number, joined in every.items():
        shorter = {_LETTERS_FIRST.sub("", joined)} - {joined}
        if _BIRTH_DATE.fullmatch(joined):
            shorter.add(joined[2:])
        others = {one for short in shorter for one in by_joined.get(short.lstrip("0"), ())}
        if "-" in bare(number):
            others |= {one for one in by_joined[joined.lstrip("0")] if "-" not in bare(one)}
        if others and sum(map(str.isdecimal, joined)) >= FEWEST_DIGITS:
            groups.add(frozenset({number, *others}))
    return sorted(map(sorted, groups))


def _joined(number: str) -> str:
    """A number without case and without all that is no letter or digit."""
    plain = unicodedata.normalize("NFKC", number).casefold().translate(_SAME_LOOKS)
    return "".join(_RUNS.findall(plain))
