"""The contrast by percentiles, and whether a shown image can be looked at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Box, PixelMask, Plane, Values
from .borders import exposed_field, visible_values
from .reading import ContrastScheme, UnusableImage

PERCENTILES = (0.5, 99.5)

CENTRE_MARGIN = 0.2
"""Share of each side of the exposed field that is not judged. The rest of it shows body in every
radiograph of a chest, and no air beside the body."""

# In brackets: the extremes of 2,894 real radiographs, as their 8 bits, their windows and the
# percentiles show them.
DARKEST = 0.4
"""An image is dark if its 99.5th percentile is lower (0.45)."""
BRIGHTEST = 0.8
"""An image is bright if its 0.5th percentile is higher (0.73)."""
LEAST_SPREAD = 0.15
"""An image is flat if its 1st and 99th percentile are closer (0.17)."""
MOST_CLIPPED = 0.3
"""Largest share of pixels that are black or white (0.15 of a hip, 0.01 of a chest)."""
BLACK_LEVEL = 1 / 512
"""An 8-bit display shows this as black. A sigmoid never reaches 0."""

MARKER_GAP = 0.2
"""A marker's value is farther from all others than this share of their range."""

_LINES = 128
"""About so many rows and columns are judged, for speed."""


@dataclass(frozen=True)
class ShownImage:
    """The displayed image, (rows, columns) in [0, 1], and how its contrast was chosen."""

    image: Plane
    field: Box
    """Its exposed field."""
    scheme: ContrastScheme
    poor: bool
    """Whether it is dark, bright, flat, or nearly all black and white in every contrast."""
    span: float
    """Difference of the values of white and black, if percentiles chose them; else NaN."""


Contrast = tuple[ContrastScheme, Callable[[Values], Plane]]
"""A contrast and its function from values to [0, 1], (rows, columns)."""


def show(
    values: Values, contrasts: Sequence[Contrast], mask: PixelMask | None, *, inverted: bool = False
) -> ShownImage:
    """The image in the first contrast in which it can be looked at.

    After the given contrasts follow the percentiles of what is visible and, if a border takes more
    than they leave out, those of the middle. An image that can be looked at in none is shown by the
    percentiles of what is visible.

    Parameters
    ----------
    values
        Rescaled or stored values, (rows, columns).
    contrasts
        The contrasts that the file states, best first.
    mask
        Hidden pixels, which become black and do not count.
    inverted
        Whether the largest value is black.

    Raises
    ------
    UnusableImage
        If all visible values are equal.
    """

    def judged(image: Plane, scheme: ContrastScheme, span: float) -> ShownImage:
        if inverted:
            np.subtract(1, image, out=image)
        if mask is not None:
            image[mask] = 0
        field = exposed_field(image, mask)
        poor = _poorly_shown(_middle(image, mask, field))
        return ShownImage(image, field, scheme, poor, span)

    for scheme, contrast in contrasts:
        shown = judged(contrast(values), scheme, float("nan"))
        if not shown.poor:
            return shown
    first: ShownImage | None = None
    sources: list[Callable[[], Values]] = [
        lambda: visible_values(values, mask),
        lambda: _middle(values, mask, (slice(0, len(values)), slice(0, values.shape[1]))),
    ]
    for counted in sources:
        low, high = _limits(values, counted())
        image = np.asarray(np.clip((values - low) / (high - low), 0, 1), np.float32)
        shown = judged(image, "percentiles", high - low)
        if not shown.poor:
            return shown
        first = first or shown
    assert first is not None
    return first


def _poorly_shown(values: Values) -> bool:
    """Whether displayed values (n,) are dark, bright, flat, or nearly all black and white."""
    grey = values[(values > BLACK_LEVEL) & (values < 1 - BLACK_LEVEL)]
    if grey.size < (1 - MOST_CLIPPED) * values.size:
        return True
    lowest, low, high, highest = np.percentile(grey, (0.5, 1, 99, 99.5))
    return bool(highest < DARKEST or lowest > BRIGHTEST or high - low < LEAST_SPREAD)


def _limits(values: Values, counted: Values) -> tuple[float, float]:
    """What is black and what is white by the percentiles of the values that count."""
    low, high = (float(v) for v in np.percentile(_without_markers(counted), PERCENTILES))
    if not high > low:
        low, high = float(counted.min()), float(counted.max())
    if not high > low:
        low, high = float(values.min()), float(values.max())
    if not high > low:
        raise UnusableImage("all pixels are equal")
    return low, high


def _without_markers(values: Values) -> Values:
    """The values (n,) without the smallest and the largest one, if these stand alone, far from all
    others: a burned-in marker or a border."""
    low, high = values.min(), values.max()
    inner = values[(values > low) & (values < high)]
    if not inner.size:
        return values
    least, most = inner.min(), inner.max()
    gap = MARKER_GAP * (float(most) - float(least))
    if least - low > gap:
        values = values[values > low]
    if high - most > gap:
        values = values[values < high]
    return values


def _middle(image: Values, mask: PixelMask | None, field: Box) -> Values:
    """Values (n,) in the middle of the field that are not hidden; of all if none is there."""
    rows, columns = (_inner(lines) for lines in field)
    values = image[rows, columns]
    if mask is not None:
        values = values[~mask[rows, columns]]
    return values.ravel() if values.size else image.ravel()


def _inner(lines: slice) -> slice:
    length = lines.stop - lines.start
    margin = int(CENTRE_MARGIN * length)
    return slice(lines.start + margin, lines.stop - margin, max(1, length // _LINES))
