"""The arrays that the reading chain passes on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
"""Stored or displayed values, (rows, columns)."""

Plane = NDArray[np.float32]
"""A displayed image, (rows, columns) in [0, 1], where 1 is white."""

PixelMask = NDArray[np.bool_]
"""(rows, columns)."""

Box = tuple[slice, slice]
"""Rows and columns of a rectangle in an image."""
