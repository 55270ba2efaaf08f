"""From stored values to the displayed image, in [0, 1] where 1 is white.

This is the grey-scale pipeline of DICOM PS3.3, in its order: modality LUT (C.11.1), VOI LUT
(C.11.2).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset

from .arrays import PixelMask, Plane, Values
from .contrast import Contrast, ShownImage, show
from .elements import UnreadableElement, element_code, element_number, element_numbers
from .reading import Remark, UnusableImage
from .stored_pixels import StoredPixels

LEAST_OVERLAP = 0.6
"""Share of a window that stored values can take, at least. If they cannot take the rest, whatever
the image is, the window was made for other pixels."""

LARGEST_RESCALE = 1e9
"""Upper limit of slope, intercept and windows; larger ones could overflow in later steps."""

FUNCTIONS = ("LINEAR", "LINEAREXACT", "SIGMOID")
"""The VOI LUT functions, as `element_code` writes them."""


@dataclass(frozen=True)
class DisplayedImage:
    """The displayed image, its exposed field and contrast, and remarks about them."""

    shown: ShownImage
    remarks: tuple[Remark, ...]


def display_image(stored: StoredPixels, dataset: Dataset, mask: PixelMask | None) -> DisplayedImage:
    """Apply the modality LUT or rescale, then a contrast, then the inversion of MONOCHROME1.

    The contrast is the first VOI LUT, else the first window with its VOI LUT Function. A display
    may offer every one in the file (PS3.3 C.11.2); manufacturers put their default first. If there
    is none, or if it was not made for these pixels, the contrast reaches from the 0.5th to the
    99.5th percentile of the visible values. The window refers to values before inversion, so
    MONOCHROME1 is inverted after the contrast. Presentation LUT Shape only repeats the photometric
    interpretation (PS3.3 C.8.11.3.1.2), so it inverts nothing.

    Parameters
    ----------
    stored
        Stored values, and the bits and sign that they have.
    dataset
        Attributes of the file.
    mask
        Hidden pixels, (rows, columns), which become black; None if there are none.

    Raises
    ------
    UnusableImage
        If all visible pixels are equal, or a table or rescale is broken or unreadable.
    """
    remarks: list[Remark] = []
    rescaled, possible = _apply_modality_lut(stored, dataset)
    try:
        choices = _contrasts(dataset)
        if not choices:
            remarks.append("no window")
    except _UnreadableWindow:
        choices = []
        remarks.append("window unreadable")
    if len(choices) > 1:
        remarks.append("several windows")
    contrasts = [
        _contrast_function(choice, dataset) for choice in choices[:1] if _overlaps(choice, possible)
    ]
    inverted = element_code(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    shown = show(rescaled, contrasts, mask, inverted=inverted)
    if choices and shown.scheme == "percentiles":
        remarks.append("window not of these pixels")
    if shown.poor:
        remarks.append("dark or flat")
    if element_code(dataset, "PresentationLUTShape") == ("IDENTITY" if inverted else "INVERSE"):
        remarks.append("presentation disagrees")
    return DisplayedImage(shown, tuple(remarks))


@dataclass(frozen=True)
class _DisplayContrast:
    kind: Literal["VOI LUT", "window"]
    centre: float = 0.0
    width: float = 0.0
    function: str = ""


class _UnreadableWindow(Exception):
    """A window that is in the file and cannot be used."""


def _contrasts(dataset: Dataset) -> list[_DisplayContrast]:
    """The contrasts in the file, best first. Raises _UnreadableWindow if it states none that can be
    used, but parts of one."""
    contrasts = [_DisplayContrast("VOI LUT") for _ in _tables(dataset, "VOILUTSequence")]
    try:
        windows = _windows(dataset)
    except _UnreadableWindow:
        if not contrasts:
            raise
        windows = []
    return [*contrasts, *dict.fromkeys(windows)]


def _windows(dataset: Dataset) -> list[_DisplayContrast]:
    try:
        centres = element_numbers(dataset, "WindowCenter")
        widths = element_numbers(dataset, "WindowWidth")
    except UnreadableElement as error:
        raise _UnreadableWindow from error
    function = element_code(dataset, "VOILUTFunction") or "LINEAR"
    windows = [
        _DisplayContrast("window", centre, width, function)
        for centre, width in zip(centres, widths, strict=False)
        if abs(centre) < LARGEST_RESCALE and 0 < width < LARGEST_RESCALE
    ]
    if (centres or widths) and (not windows or function not in FUNCTIONS):
        raise _UnreadableWindow
    return windows


def _overlaps(contrast: _DisplayContrast, possible: tuple[float, float]) -> bool:
    """Whether stored values can take most of a window. A sigmoid has no ends."""
    if contrast.kind == "VOI LUT" or contrast.function == "SIGMOID":
        return True
    low, high = contrast.centre - contrast.width / 2, contrast.centre + contrast.width / 2
    # A step of the values more at each end: windows of one or two values are none of the kind.
    inside = min(high, possible[1] + 1) - max(low, possible[0] - 1)
    return inside >= LEAST_OVERLAP * contrast.width


def _contrast_function(contrast: _DisplayContrast, dataset: Dataset) -> Contrast:
    if contrast.kind == "VOI LUT":
        return "VOI LUT", lambda values: _apply_voi_lut(values, dataset)
    return "window", lambda values: apply_window(
        values, contrast.centre, contrast.width, contrast.function
    )


def apply_window(rescaled: Plane, centre: float, width: float, function: str = "LINEAR") -> Plane:
    """Apply a window to rescaled values (rows, columns); the result is in [0, 1].

    `centre` and `width` are in units of the values. `function` is LINEAR (PS3.3 C.11.2.1.2),
    LINEAREXACT or SIGMOID (C.11.2.1.3).
    """
    if function == "SIGMOID":
        slope = np.clip(-4 * (rescaled - centre) / width, -80, 80)
        return np.asarray(1 / (1 + np.exp(slope)), np.float32)
    if function != "LINEAREXACT" and width > 1:
        centre, width = centre - 0.5, width - 1
    scaled = (rescaled - np.float32(centre)) / np.float32(width) + np.float32(0.5)
    return np.asarray(np.clip(scaled, 0, 1), np.float32)


def _apply_modality_lut(
    stored: StoredPixels, dataset: Dataset
) -> tuple[Plane, tuple[float, float]]:
    """Apply the modality LUT, else slope (1 if absent) and intercept (0 if absent).

    Returns the values, and the smallest and largest that the stored bits can give.
    """
    if tables := _tables(dataset, "ModalityLUTSequence"):
        rescaled, white, largest = _look_up(stored.values, tables[0], dataset, "modality LUT")
        return rescaled, (0.0, max(white, largest))
    slope, intercept = (
        element_number(dataset, "RescaleSlope"),
        element_number(dataset, "RescaleIntercept"),
    )
    if slope == 0:
        raise UnusableImage("Rescale Slope is 0, which makes all pixels equal")
    slope, intercept = np.nan_to_num(slope, nan=1.0), np.nan_to_num(intercept, nan=0.0)
    if not max(abs(slope), abs(intercept)) < LARGEST_RESCALE:
        raise UnusableImage(
            f"Rescale Slope {slope:g} and Intercept {intercept:g} are not plausible"
        )
    low, high = sorted(float(end * slope + intercept) for end in stored.possible)
    rescaled = np.asarray(stored.values * np.float64(slope) + intercept, np.float32)
    return rescaled, (low, high)


def _apply_voi_lut(rescaled: Plane, dataset: Dataset) -> Plane:
    """Apply the first VOI LUT.

    White is the largest value that its number of bits allows. If the data use less than half of
    that range (some writers state 16 bits for a table of 12) or exceed it, white is the largest
    value in the data.
    """
    shown, white, largest = _look_up(
        rescaled, _tables(dataset, "VOILUTSequence")[0], dataset, "VOI LUT"
    )
    if not white / 2 <= largest <= white:
        white = largest
    return np.asarray(np.clip(shown / white, 0, 1), np.float32)


def _tables(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a LUT sequence that hold a table."""
    try:
        return [item for item in dataset.get(keyword) or [] if "LUTData" in item]
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:  # pydicom can raise nearly any exception for broken bytes
        raise UnusableImage(f"{keyword} cannot be read: {type(error).__name__}") from error


def _look_up(
    given: Values, item: Dataset, dataset: Dataset, name: str
) -> tuple[Plane, float, float]:
    """Map values through a look-up table (PS3.3 C.11.1.1.1).

    Returns the result, the largest value that the table's bits allow, and the largest value in the
    table. The data may be bytes or words, in the byte order of the file. `name` is used in errors.
    """
    try:
        entries, first, bits = (int(v) for v in element_numbers(item, "LUTDescriptor"))
        entries = entries % 65536 or 65536
        raw, order = (
            item.LUTData,
            "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">",
        )
        if not isinstance(raw, bytes):
            raw = np.atleast_1d(np.asarray(raw)).astype(np.int64).astype(f"{order}u2").tobytes()
        words = len(raw) >= 2 * entries or bits > 8
        table = np.frombuffer(raw, f"{order}u2" if words else np.uint8)[:entries]
        table, white = table.astype(np.float32), 2.0**bits - 1
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:  # pydicom can raise nearly any exception for broken bytes
        raise UnusableImage(f"{name} cannot be read: {type(error).__name__}") from error
    if not len(table) or not table.max() > 0:
        raise UnusableImage(f"{name} is empty")
    if first > 32767 and given.min() < 0:  # the first value is signed if the pixels are
        first -= 65536
    index = np.clip(np.rint(given).astype(np.int64) - first, 0, len(table) - 1)
    return table[index], white, float(table.max())
