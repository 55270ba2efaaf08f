"""Parts of an image that were not exposed: padding, shutters, collimated and empty margins."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from .arrays import Box, PixelMask, Values
from .elements import element_codes, element_number, element_numbers
from .stored_pixels import StoredPixels

LINE_QUANTILES = (0.1, 0.9)
"""Quantiles between which the spread of a row or column is measured. Noise and a lead letter lie
outside them, anatomy does not."""
FLAT_SHARE = 0.03
"""A row or column is flat if its spread is less than this share of the image's range."""

EDGES = tuple(
    f"Shutter{edge}Edge"
    for edge in ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical")
)
"""The elements of a rectangular shutter."""

LARGEST_MARGIN = 0.4
"""Largest share of a side that a margin may take."""


def hidden_pixels(stored: StoredPixels, dataset: Dataset) -> PixelMask | None:
    """Mask of the pixels that the file marks as hidden; None if it marks none, or all.

    Two attributes hide pixels: Pixel Padding Value (a value, or a range together with Pixel Padding
    Range Limit; PS3.3 C.7.5.1.1.2) and the display shutter (rectangular, circular, polygonal;
    PS3.3 C.7.6.11). Raises UnreadableElement if one of their numbers cannot be read.
    """
    masks = (_padding(stored, dataset), _shutter(stored.values.shape, dataset))
    parts = [m for m in masks if m is not None and m.any() and not m.all()]
    return np.asarray(np.logical_or.reduce(parts)) if parts else None


def _padding(stored: StoredPixels, dataset: Dataset) -> PixelMask | None:
    first, last = (
        element_number(dataset, "PixelPaddingValue"),
        element_number(dataset, "PixelPaddingRangeLimit"),
    )
    if np.isnan(first):
        return None
    if np.isnan(last):
        last = first
    # Some writers store the padding value unsigned for signed pixels, or the other way round.
    if stored.signed:
        first, last = (v - 65536 if v > 32767 else v for v in (first, last))
    else:
        first, last = (v + 65536 if v < 0 else v for v in (first, last))
    inside: PixelMask = (stored.values >= min(first, last)) & (stored.values <= max(first, last))
    return inside


def _shutter(shape: tuple[int, ...], dataset: Dataset) -> PixelMask | None:
    """Pixels outside the shutter. The file counts edges from 1, and the named line is visible."""
    shapes = element_codes(dataset, "ShutterShape")
    if not shapes:
        return None
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    shown = np.ones(shape, dtype=bool)
    if "RECTANGULAR" in shapes and _has_edges("RECTANGULAR", dataset):
        top, bottom, left, right = (element_number(dataset, edge) for edge in EDGES)
        shown &= (rows >= top - 1) & (rows <= bottom - 1)
        shown &= (columns >= left - 1) & (columns <= right - 1)
    if "CIRCULAR" in shapes and _has_edges("CIRCULAR", dataset):
        centre = element_numbers(dataset, "CenterOfCircularShutter")
        radius = element_number(dataset, "RadiusOfCircularShutter")
        shown &= np.hypot(rows - centre[0] + 1, columns - centre[1] + 1) <= radius
    if "POLYGONAL" in shapes and _has_edges("POLYGONAL", dataset):
        from PIL import Image, ImageDraw

        corners = element_numbers(dataset, "VerticesOfThePolygonalShutter")
        canvas = Image.new("1", (shape[1], shape[0]))
        pairs = [(x - 1, y - 1) for y, x in zip(corners[::2], corners[1::2], strict=False)]
        ImageDraw.Draw(canvas).polygon(pairs, fill=1)
        shown &= np.asarray(canvas)
    return ~shown


def shutter_unreadable(dataset: Dataset) -> bool:
    """Whether the file names a shutter whose shape or edges are unknown."""
    return not all(_has_edges(shape, dataset) for shape in element_codes(dataset, "ShutterShape"))


def _has_edges(shape: str, dataset: Dataset) -> bool:
    if shape == "RECTANGULAR":
        return not np.isnan([element_number(dataset, edge) for edge in EDGES]).any()
    if shape == "CIRCULAR":
        centre = element_numbers(dataset, "CenterOfCircularShutter")
        radius = element_number(dataset, "RadiusOfCircularShutter")
        return len(centre) == 2 and not np.isnan(centre).any() and radius > 0
    corners = element_numbers(dataset, "VerticesOfThePolygonalShutter")
    return shape == "POLYGONAL" and len(corners) >= 6 and not np.isnan(corners).any()


def exposed_field(image: Values, mask: PixelMask | None) -> Box:
    """The part of an image inside its flat margins, as slices of rows and columns.

    Collimation leaves a margin of nearly constant brightness. On each side, rows or columns are
    removed while they are flat (see FLAT_SHARE), up to LARGEST_MARGIN of the side. Pixels in `mask`
    are ignored.
    """
    step = max(1, min(image.shape) // 256)
    small = np.asarray(image[::step, ::step], np.float32)
    if mask is not None:
        small = np.where(mask[::step, ::step], np.nan, small)
    known = small[~np.isnan(small)]
    low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 0.0)
    if not high > low:
        return slice(0, image.shape[0]), slice(0, image.shape[1])
    top, bottom = _margins(small, float(high - low))
    left, right = _margins(small[top : small.shape[0] - bottom].T, float(high - low))
    return (
        slice(top * step, image.shape[0] - bottom * step),
        slice(left * step, image.shape[1] - right * step),
    )


def _margins(lines: NDArray[np.float32], span: float) -> tuple[int, int]:
    """Number of flat lines at the start and at the end."""
    ordered = np.sort(lines, axis=1)  # NaN comes last
    known = (~np.isnan(lines)).sum(axis=1)
    line = np.arange(len(lines))
    low, high = (
        ordered[line, (share * np.maximum(known - 1, 0)).astype(int)] for share in LINE_QUANTILES
    )
    even = (known == 0) | (high - low < FLAT_SHARE * span)
    flat: PixelMask = np.asarray(ndimage.binary_closing(even, border_value=1))
    limit = int(LARGEST_MARGIN * len(lines))

    def run(of: PixelMask) -> int:
        return int(of.argmin()) if not of.all() else 0

    return min(run(flat), limit), min(run(np.flip(flat)), limit)


def visible_values(image: Values, mask: PixelMask | None) -> Values:
    """Values (n,) in the exposed field that are not hidden; contrast is computed from them."""
    return values_inside(image, exposed_field(image, mask), mask)


def values_inside(image: Values, field: Box, mask: PixelMask | None) -> Values:
    """Values (n,) in a part of the image that are not hidden."""
    inside = image[field]
    return inside.ravel() if mask is None else inside[~mask[field]]
