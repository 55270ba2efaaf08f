"""Signs in the picture that a person should look at. They flag; they change nothing."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .lungs import lung_box

Plane = NDArray[np.float32]

TALL = 1.35
"""A body this much taller than wide is more than a chest."""
LUNG_SHARE = 0.45
"""Lungs of a chest radiograph take at least this share of the body's height in it."""
AIR = 0.2
"""Darker than this is air beside the body."""


def suspected_inverted(image: Plane) -> bool:
    """Whether a chest lies there as its negative: dark spine and belly, bright lungs and corners.

    Compares ranks of grey values on 64 × 64 pixels, so no window matters: midline against lung
    zones, midline against upper corners, belly against lung zones. A negative turns the sum's
    sign. Of the 2,887 shared radiographs it names 5, two of which are negatives; of the negatives
    of every third, all but one.
    """
    small = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BOX))
    rank = small.ravel().argsort(kind="stable").argsort().reshape(64, 64) / small.size
    midline, belly = rank[12:56, 28:36].mean(), rank[44:60, 16:48].mean()
    lungs = (rank[16:44, 12:22].mean() + rank[16:44, 42:52].mean()) / 2
    corners = (rank[:8, :8].mean() + rank[:8, -8:].mean()) / 2
    return bool((midline - lungs) + (midline - corners) + (belly - lungs) < 0)


def whole_body(image: Plane) -> bool:
    """Whether more than the chest is in the picture: a babygram.

    By shape, the body is TALL; by content, the lungs take less than LUNG_SHARE of its height or
    are not found.
    """
    body = image > AIR
    rows, columns = (_span(body.mean(axis=axis)) for axis in (1, 0))
    if rows < TALL * columns:
        return False
    lungs = lung_box(image)
    return lungs is None or lungs[0].stop - lungs[0].start < LUNG_SHARE * rows


def _span(share: NDArray[np.float64]) -> int:
    """Lines from the first to the last of which at least a tenth is body."""
    lines = np.flatnonzero(share >= 0.1)
    return int(lines[-1] - lines[0]) + 1 if lines.size else 0
