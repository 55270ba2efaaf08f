"""From stored values to what a radiologist is shown: [0, 1], 1 is white.

The grey-scale pipeline of PS3.3 (C.11.1 modality LUT, C.11.2 VOI LUT), in its order.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut

from .borders import Mask, in_view
from .dicom import text, values
from .reading import Remark, Scheme, UnusableImage

Plane = NDArray[np.float32]

MINIMUM_VISIBLE = 0.05
"""Share of pixels that a window must show as grey; below it, window and pixels do not belong
together."""

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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meant = np.asarray(apply_modality_lut(stored, dataset), np.float32)
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:  # whatever a faulty table makes pydicom raise
        raise UnusableImage(f"modality LUT cannot be applied: {type(error).__name__}") from error
    choices = _contrasts(dataset)
    if len(choices) > 1:
        remarks.append("several windows")
    image: Plane | None = None
    scheme: Scheme = "percentiles"
    if choices:
        scheme, image = choices[0][0], _apply(meant, dataset, choices[0])
        seen = in_view(image, mask)
        if ((seen > 0) & (seen < 1)).mean() < MINIMUM_VISIBLE:
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
    tables: list[Contrast] = [
        ("VOI LUT", 0.0, 0.0) for item in dataset.get("VOILUTSequence") or [] if "LUTData" in item
    ]
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
    if function == "LINEAR" and width > 1:
        centre, width = centre - 0.5, width - 1
    scaled = (meant - np.float32(centre)) / np.float32(width) + np.float32(0.5)
    return np.asarray(np.clip(scaled, 0, 1), np.float32)


def _voi_lut(meant: Plane, dataset: Dataset) -> Plane:
    """The first VOI LUT. White is the largest value of its bits, or of its data where they use
    less than half of that (writers who state 16 bits for a table of 12)."""
    item = dataset.VOILUTSequence[0]
    try:
        entries, first, bits = (int(v) for v in values(item, "LUTDescriptor"))
        raw = item.LUTData
        table = (
            np.frombuffer(raw, np.uint8 if len(raw) == (entries or 65536) else np.uint16)
            if isinstance(raw, bytes)
            else np.asarray(raw)
        ).astype(np.float32)
    except (ValueError, TypeError, AttributeError) as error:
        raise UnusableImage(f"VOI LUT cannot be read: {type(error).__name__}") from error
    if not len(table) or not table.max() > 0:
        raise UnusableImage("VOI LUT is empty")
    if first > 32767 and meant.min() < 0:  # the first value is signed where the pixels are
        first -= 65536
    white = 2.0**bits - 1
    if table.max() < white / 2:
        white = float(table.max())
    index = np.clip(np.rint(meant) - first, 0, len(table) - 1).astype(np.int64)
    return np.asarray(np.clip(table[index] / white, 0, 1), np.float32)


def _by_percentiles(meant: Plane, mask: Mask | None) -> Plane:
    seen = in_view(meant, mask)
    low, high = (float(v) for v in np.percentile(seen, PERCENTILES))
    if not high > low:
        low, high = float(seen.min()), float(seen.max())
    if not high > low:
        raise UnusableImage("all pixels are equal")
    return np.asarray(np.clip((meant - low) / (high - low), 0, 1), np.float32)
