"""Elements of a DICOM header as text, codes and numbers.

A number that is absent is told from one that is there and cannot be read: the second is never
taken for the first.
"""

import math
import re
from contextlib import suppress
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from .reading import UnusableImage

_TEXT = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UT"}
"""Value representations whose bytes are characters."""

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
"""A comma that may separate the thousands or the decimals: 1,024 is 1024 or 1.024."""

_LARGEST = 1e12
"""No element that is read here is as large; larger ones could overflow in later steps."""

_BLANKS = " \t\r\n\0"


class UnreadableElement(UnusableImage):
    """An element that is in the file and cannot be read."""


def element_text(dataset: Dataset, keyword: str) -> str:
    r"""An element as text without surrounding blanks, several values as in the file (`CR\DX`).

    It is "" if the element is absent, empty or unreadable.
    """
    with suppress(Exception):
        value = dataset.get(keyword)
        many = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
        return "\\".join(str(one) for one in many if one is not None).strip(_BLANKS)
    return ""


def element_codes(dataset: Dataset, keyword: str) -> list[str]:
    """The code strings of an element in capitals, without blanks, hyphens and underscores.

    Files have `cr`, `MONOCHROME 2` and `linear_exact`, and several codes in the place of one.
    """
    codes = re.split(r"[\\/,;]", element_text(dataset, keyword).upper())
    bare = (re.sub(r"[\s_\-\0]+", "", code) for code in codes)
    return [code for code in bare if code]


def element_code(dataset: Dataset, keyword: str) -> str:
    r"""The only code of an element; several different ones joined by `\`, "" if there is none."""
    return "\\".join(dict.fromkeys(element_codes(dataset, keyword)))


def shown_code(text: str) -> str:
    """A code for a sentence about it. What is no code, and so may name a person, is not shown."""
    return text if re.fullmatch(r"[A-Za-z0-9 _\-\\/]{1,32}", text) else "that is no code"


def element_numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The numbers in an element, NaN in an empty place; an empty list if it is absent or empty.

    The decimals of a number in characters may follow a comma. Raises UnreadableElement if the
    element holds anything else: words, not a number, infinity, a separator of thousands.
    """
    try:
        numbers = [_number(part) for part in _parts(dataset, keyword)]
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:  # pydicom can raise nearly any exception for broken bytes
        raise UnreadableElement(
            f"{keyword} is in the header and cannot be read as a number"
        ) from error
    return [] if all(math.isnan(number) for number in numbers) else numbers


def element_number(dataset: Dataset, keyword: str) -> float:
    """The only number in an element; NaN if it has none. Raises UnreadableElement for several."""
    numbers = {number for number in element_numbers(dataset, keyword) if not math.isnan(number)}
    if len(numbers) > 1:
        raise UnreadableElement(f"{keyword} holds several numbers where one is expected")
    return next(iter(numbers), float("nan"))


def _parts(dataset: Dataset, keyword: str) -> list[Any]:
    """The values of an element; those that are characters in the file are not yet interpreted."""
    tag = Tag(keyword)
    if tag not in dataset:
        return []
    element: Any = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        stated = dictionary_VR(tag) if element.VR in (None, "UN") else element.VR
        if stated in _TEXT:
            return bytes(element.value or b"").decode("latin-1").split("\\")
    value = dataset[tag].value
    if not value and value != 0:
        return []
    if isinstance(value, str):
        return value.split("\\")
    return [value] if isinstance(value, bytes | int | float) else list(value)


def _number(part: Any) -> float:
    """One number, NaN for an empty value. Raises ValueError if it is none."""
    if isinstance(part, str):
        part = part.strip(_BLANKS)
        if not part:
            return float("nan")
        if not _NUMBER.fullmatch(part) or _THOUSANDS.fullmatch(part):
            raise ValueError
        part = part.replace(",", ".")
    number = float("nan") if part is None else float(part)
    if part is not None and not abs(number) < _LARGEST:
        raise ValueError
    return number
