"""What of an image is no part of the exposure: padding, shutters, collimated and empty margins."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from .dicom import number, text, values

Mask = NDArray[np.bool_]
Values = NDArray[Any]
"""Stored or shown values, (rows, columns)."""
Box = tuple[slice, slice]

SPREAD = (0.1, 0.9)
FLAT = 0.03
"""A line whose 10th to 90th percentile spans less than this share of the image's range is margin:
noise and a lead letter do not keep it from being one, anatomy does."""

DEEPEST = 0.4
"""Share of a side that a margin may take at the most."""


def hidden(stored: Values, dataset: Dataset) -> Mask | None:
    """Pixels that the file says are not to be seen; None where it says nothing.

    Pixel Padding Value (a value, or a range with Pixel Padding Range Limit; PS3.3 C.7.5.1.1.2)
    and the display shutter (rectangular, circular, polygonal; PS3.3 C.7.6.11).
    """
    masks = (_padding(stored, dataset), _shutter(stored.shape, dataset))
    parts = [m for m in masks if m is not None and m.any() and not m.all()]
    return np.asarray(np.logical_or.reduce(parts)) if parts else None


def _padding(stored: Values, dataset: Dataset) -> Mask | None:
    first, last = number(dataset, "PixelPaddingValue"), number(dataset, "PixelPaddingRangeLimit")
    if np.isnan(first):
        return None
    if np.isnan(last):
        last = first
    if number(dataset, "PixelRepresentation") == 1:  # written with the sign of the other kind
        first, last = (v - 65536 if v > 32767 else v for v in (first, last))
    else:
        first, last = (v + 65536 if v < 0 else v for v in (first, last))
    inside: Mask = (stored >= min(first, last)) & (stored <= max(first, last))
    return inside


def _shutter(shape: tuple[int, ...], dataset: Dataset) -> Mask | None:
    """Edges are counted from 1 in the file, and the named line is still shown."""
    shapes = text(dataset, "ShutterShape").upper()
    if not shapes:
        return None
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    shown = np.ones(shape, dtype=bool)
    if "RECTANGULAR" in shapes:
        edges = [
            number(dataset, f"Shutter{edge}Edge")
            for edge in ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical")
        ]
        if not np.isnan(edges).any():
            top, bottom, left, right = edges
            shown &= (rows >= top - 1) & (rows <= bottom - 1)
            shown &= (columns >= left - 1) & (columns <= right - 1)
    centre, radius = (
        values(dataset, "CenterOfCircularShutter"),
        number(dataset, "RadiusOfCircularShutter"),
    )
    if "CIRCULAR" in shapes and len(centre) == 2 and radius > 0:
        shown &= np.hypot(rows - centre[0] + 1, columns - centre[1] + 1) <= radius
    corners = values(dataset, "VerticesOfThePolygonalShutter")
    if "POLYGONAL" in shapes and len(corners) >= 6:
        from PIL import Image, ImageDraw

        canvas = Image.new("1", (shape[1], shape[0]))
        pairs = [(x - 1, y - 1) for y, x in zip(corners[::2], corners[1::2], strict=False)]
        ImageDraw.Draw(canvas).polygon(pairs, fill=1)
        shown &= np.asarray(canvas)
    return ~shown


def exposed_field(image: Values, mask: Mask | None) -> Box:
    """The part of an image within flat margins, as slices of rows and columns.

    Collimation leaves a margin that is nearly even, whatever its brightness. Lines are taken off
    a side as long as they are flat (see FLAT), at most DEEPEST of it.
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
    """How many lines at the start and at the end are flat."""
    ordered = np.sort(lines, axis=1)  # NaN comes last
    known = (~np.isnan(lines)).sum(axis=1)
    line = np.arange(len(lines))
    low, high = (ordered[line, (share * np.maximum(known - 1, 0)).astype(int)] for share in SPREAD)
    even = (known == 0) | (high - low < FLAT * span)
    flat: Mask = np.asarray(ndimage.binary_closing(even, border_value=1))
    limit = int(DEEPEST * len(lines))

    def run(of: Mask) -> int:
        return int(of.argmin()) if not of.all() else 0

    return min(run(flat), limit), min(run(np.flip(flat)), limit)


def in_view(image: Values, mask: Mask | None) -> Values:
    """The values that count for a window or a mean: in the exposed field and not hidden, (n,)."""
    box = exposed_field(image, mask)
    inside = image[box]
    return inside.ravel() if mask is None else inside[~mask[box]]
