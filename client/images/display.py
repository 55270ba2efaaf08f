"""From stored values to the displayed image, in [0, 1] where 1 is white.

This is the grey-scale pipeline of DICOM PS3.3, in its order: modality LUT (C.11.1), VOI LUT
(C.11.2).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset

from .arrays import PixelMask, Plane, Values
from .borders import visible_values
from .dicom import element_number, element_numbers, element_text
from .reading import ContrastScheme, Remark, UnusableImage

MINIMUM_VISIBLE = 0.05
"""Share of the pixels that a window must show as grey. If fewer are grey, the window was not made
for these pixels."""

LARGEST_RESCALE = 1e9
"""Upper limit of slope and intercept; larger ones could overflow in later steps."""

BLACK_LEVEL = 1 / 512
"""An 8-bit display shows this as black. A sigmoid never reaches 0."""

PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class DisplayedImage:
    """The displayed image, (rows, columns) in [0, 1], and how its contrast was chosen."""

    image: Plane
    scheme: ContrastScheme
    remarks: tuple[Remark, ...]


def display_image(stored: Values, dataset: Dataset, mask: PixelMask | None) -> DisplayedImage:
    """Apply the modality LUT or rescale, then a contrast, then the inversion of MONOCHROME1.

    The contrast is the first VOI LUT, else the first window with its VOI LUT Function. A display
    may offer every one in the file (PS3.3 C.11.2); manufacturers put their default first. If there
    is none, or if it shows nearly nothing of these pixels, the contrast reaches from the 0.5th to
    the 99.5th percentile of the visible values. The window refers to values before inversion, so
    MONOCHROME1 is inverted after the contrast. Presentation LUT Shape only repeats the photometric
    interpretation (PS3.3 C.8.11.3.1.2), so it inverts nothing.

    Parameters
    ----------
    stored
        Stored values, (rows, columns).
    dataset
        Attributes of the file.
    mask
        Hidden pixels, (rows, columns), which become black; None if there are none.

    Raises
    ------
    UnusableImage
        If all visible pixels are equal, or a table or rescale is broken.
    """
    remarks: list[Remark] = []
    rescaled = _apply_modality_lut(stored, dataset)
    choices = _contrasts(dataset)
    if len(choices) > 1:
        remarks.append("several windows")
    image: Plane | None = None
    scheme: ContrastScheme = "percentiles"
    if choices:
        scheme, image = choices[0][0], _apply_contrast(rescaled, dataset, choices[0])
        visible = visible_values(image, mask)
        if ((visible > BLACK_LEVEL) & (visible < 1 - BLACK_LEVEL)).mean() < MINIMUM_VISIBLE:
            image = None
            remarks.append("window not of these pixels")
    else:
        remarks.append("no window")
    if image is None:
        scheme, image = "percentiles", _apply_percentiles(rescaled, mask)
    inverted = element_text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    if inverted:
        np.subtract(1, image, out=image)
    if element_text(dataset, "PresentationLUTShape") == ("IDENTITY" if inverted else "INVERSE"):
        remarks.append("presentation disagrees")
    if mask is not None:
        image[mask] = 0
    return DisplayedImage(image, scheme, tuple(remarks))


DisplayContrast = tuple[Literal["VOI LUT", "window"], float, float]
"""Kind, and the centre and width of a window (0 for a VOI LUT)."""


def _contrasts(dataset: Dataset) -> list[DisplayContrast]:
    """The contrasts in the file, best first, without windows of impossible width."""
    tables: list[DisplayContrast] = [
        ("VOI LUT", 0.0, 0.0) for _ in _tables(dataset, "VOILUTSequence")
    ]
    windows: list[DisplayContrast] = [
        ("window", centre, width)
        for centre, width in zip(
            element_numbers(dataset, "WindowCenter"),
            element_numbers(dataset, "WindowWidth"),
            strict=False,
        )
        if np.isfinite(centre) and np.isfinite(width) and width > 0
    ]
    return [*tables, *dict.fromkeys(windows)]


def _apply_contrast(rescaled: Plane, dataset: Dataset, contrast: DisplayContrast) -> Plane:
    kind, centre, width = contrast
    if kind == "VOI LUT":
        return _apply_voi_lut(rescaled, dataset)
    return apply_window(
        rescaled, centre, width, element_text(dataset, "VOILUTFunction").upper() or "LINEAR"
    )


def apply_window(rescaled: Plane, centre: float, width: float, function: str = "LINEAR") -> Plane:
    """Apply a window to rescaled values (rows, columns); the result is in [0, 1].

    `centre` and `width` are in units of the values. `function` is LINEAR (PS3.3 C.11.2.1.2),
    LINEAR_EXACT or SIGMOID (C.11.2.1.3).
    """
    if function == "SIGMOID":
        slope = np.clip(-4 * (rescaled - centre) / width, -80, 80)
        return np.asarray(1 / (1 + np.exp(slope)), np.float32)
    if function != "LINEAR_EXACT" and width > 1:
        centre, width = centre - 0.5, width - 1
    scaled = (rescaled - np.float32(centre)) / np.float32(width) + np.float32(0.5)
    return np.asarray(np.clip(scaled, 0, 1), np.float32)


def _apply_modality_lut(stored: Values, dataset: Dataset) -> Plane:
    """Apply the modality LUT, else slope (1 if absent) and intercept (0 if absent)."""
    if tables := _tables(dataset, "ModalityLUTSequence"):
        return _look_up(stored, tables[0], dataset, "modality LUT")[0]
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
    return np.asarray(stored * np.float64(slope) + intercept, np.float32)


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


def _apply_percentiles(rescaled: Plane, mask: PixelMask | None) -> Plane:
    visible = visible_values(rescaled, mask)
    low, high = (float(v) for v in np.percentile(visible, PERCENTILES))
    if not high > low:
        low, high = float(visible.min()), float(visible.max())
    if not high > low:
        raise UnusableImage("all pixels are equal")
    return np.asarray(np.clip((rescaled - low) / (high - low), 0, 1), np.float32)
