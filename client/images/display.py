"""From stored values to what a radiologist is shown: [0, 1], 1 is white.

The grey-scale pipeline of PS3.3 (C.11.1 modality LUT, C.11.2 VOI LUT), in its order.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from .borders import Mask, in_view
from .dicom import number, text, values
from .reading import Remark, Scheme, UnusableImage

Plane = NDArray[np.float32]

MINIMUM_VISIBLE = 0.05
"""Share of pixels that a window must show as grey; below it, window and pixels do not belong
together."""

LARGEST_RESCALE = 1e9
"""Slope or intercept beyond which values no longer fit into what follows."""

BLACKEST = 1 / 512
"""A display of 8 bits shows this as black (a sigmoid never reaches 0)."""

PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Shown:
    """What a display shows, (rows, columns) in [0, 1], and how that contrast was chosen."""

    image: Plane
    scheme: Scheme
    remarks: tuple[Remark, ...]


def show(stored: NDArray[Any], dataset: Dataset, mask: Mask | None) -> Shown:
    """Modality LUT or rescale, then a contrast, then inversion of MONOCHROME1.

    The contrast: the first VOI LUT, else the first window with its VOI LUT Function; a display
    may offer every one that the file holds (PS3.3 C.11.2), makers put their default first. Where
    there is none, or it shows nearly nothing of these pixels, the 0.5th to 99.5th percentile of
    what lies in view. MONOCHROME1 turns what is shown, so it comes after the contrast. Presentation
    LUT Shape repeats the photometric interpretation (PS3.3 C.8.11.3.1.2) and inverts nothing.
    `mask`: hidden pixels, shown black. Raises UnusableImage for an image of one value.
    """
    remarks: list[Remark] = []
    meant = _modality(stored, dataset)
    choices = _contrasts(dataset)
    if len(choices) > 1:
        remarks.append("several windows")
    image: Plane | None = None
    scheme: Scheme = "percentiles"
    if choices:
        scheme, image = choices[0][0], _apply(meant, dataset, choices[0])
        seen = in_view(image, mask)
        if ((seen > BLACKEST) & (seen < 1 - BLACKEST)).mean() < MINIMUM_VISIBLE:
            image = None
            remarks.append("window not of these pixels")
    else:
        remarks.append("no window")
    if image is None:
        scheme, image = "percentiles", _by_percentiles(meant, mask)
    inverted = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    if inverted:
        np.subtract(1, image, out=image)
    if text(dataset, "PresentationLUTShape") == ("IDENTITY" if inverted else "INVERSE"):
        remarks.append("presentation disagrees")
    if mask is not None:
        image[mask] = 0
    return Shown(image, scheme, tuple(remarks))


Contrast = tuple[Literal["VOI LUT", "window"], float, float]
"""Kind, and for a window its centre and width."""


def _contrasts(dataset: Dataset) -> list[Contrast]:
    """All that the file offers, in order of preference. Windows of impossible width are none."""
    tables: list[Contrast] = [("VOI LUT", 0.0, 0.0) for _ in _tables(dataset, "VOILUTSequence")]
    windows: list[Contrast] = [
        ("window", centre, width)
        for centre, width in zip(
            values(dataset, "WindowCenter"), values(dataset, "WindowWidth"), strict=False
        )
        if np.isfinite(centre) and np.isfinite(width) and width > 0
    ]
    return [*tables, *dict.fromkeys(windows)]


def _apply(meant: Plane, dataset: Dataset, contrast: Contrast) -> Plane:
    kind, centre, width = contrast
    if kind == "VOI LUT":
        return _voi_lut(meant, dataset)
    return window(meant, centre, width, text(dataset, "VOILUTFunction").upper() or "LINEAR")


def window(meant: Plane, centre: float, width: float, function: str = "LINEAR") -> Plane:
    """Values through a window, as [0, 1]: PS3.3 C.11.2.1.2 (LINEAR) and C.11.2.1.3 (LINEAR_EXACT,
    SIGMOID)."""
    if function == "SIGMOID":
        slope = np.clip(-4 * (meant - centre) / width, -80, 80)
        return np.asarray(1 / (1 + np.exp(slope)), np.float32)
    if function != "LINEAR_EXACT" and width > 1:
        centre, width = centre - 0.5, width - 1
    scaled = (meant - np.float32(centre)) / np.float32(width) + np.float32(0.5)
    return np.asarray(np.clip(scaled, 0, 1), np.float32)


def _modality(stored: NDArray[Any], dataset: Dataset) -> Plane:
    """Modality LUT, else slope and intercept; 1 and 0 where one of them is absent or empty."""
    if tables := _tables(dataset, "ModalityLUTSequence"):
        return _look_up(stored, tables[0], dataset, "modality LUT")[0]
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if slope == 0:
        raise UnusableImage("Rescale Slope is 0, which makes all pixels equal")
    slope, intercept = np.nan_to_num(slope, nan=1.0), np.nan_to_num(intercept, nan=0.0)
    if not max(abs(slope), abs(intercept)) < LARGEST_RESCALE:
        raise UnusableImage(
            f"Rescale Slope {slope:g} and Intercept {intercept:g} are not plausible"
        )
    return np.asarray(stored * np.float64(slope) + intercept, np.float32)


def _voi_lut(meant: Plane, dataset: Dataset) -> Plane:
    """The first VOI LUT. White is the largest value of its bits, or of its data where they use
    less than half of that (writers who state 16 bits for a table of 12) or more than that."""
    shown, white, largest = _look_up(
        meant, _tables(dataset, "VOILUTSequence")[0], dataset, "VOI LUT"
    )
    if not white / 2 <= largest <= white:
        white = largest
    return np.asarray(np.clip(shown / white, 0, 1), np.float32)


def _tables(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a LUT sequence that hold a table."""
    try:
        return [item for item in dataset.get(keyword) or [] if "LUTData" in item]
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:  # broken bytes make pydicom raise nearly anything
        raise UnusableImage(f"{keyword} cannot be read: {type(error).__name__}") from error


def _look_up(
    given: NDArray[Any], item: Dataset, dataset: Dataset, name: str
) -> tuple[Plane, float, float]:
    """Values through a table (PS3.3 C.11.1.1.1): the result, the largest value of its bits, and
    the largest in it. Its data may be bytes or words, in the byte order of the file."""
    try:
        entries, first, bits = (int(v) for v in values(item, "LUTDescriptor"))
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
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:  # broken bytes make pydicom raise nearly anything
        raise UnusableImage(f"{name} cannot be read: {type(error).__name__}") from error
    if not len(table) or not table.max() > 0:
        raise UnusableImage(f"{name} is empty")
    if first > 32767 and given.min() < 0:  # the first value is signed where the pixels are
        first -= 65536
    index = np.clip(np.rint(given).astype(np.int64) - first, 0, len(table) - 1)
    return table[index], white, float(table.max())


def _by_percentiles(meant: Plane, mask: Mask | None) -> Plane:
    seen = in_view(meant, mask)
    low, high = (float(v) for v in np.percentile(seen, PERCENTILES))
    if not high > low:
        low, high = float(seen.min()), float(seen.max())
    if not high > low:
        raise UnusableImage("all pixels are equal")
    return np.asarray(np.clip((meant - low) / (high - low), 0, 1), np.float32)
