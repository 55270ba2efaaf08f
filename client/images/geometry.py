"""From what is shown to the network's square."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .borders import Box

Plane = NDArray[np.float32]

BLACK, WHITE = -1024.0, 1024.0
"""The scale of torchxrayvision's networks (`torchxrayvision.utils.normalize`)."""


def true_proportions(image: Plane, height_to_width: float) -> Plane:
    """The image with square pixels. `height_to_width`: of one pixel. The coarser direction is
    resampled to the finer one, so nothing is lost."""
    if abs(height_to_width - 1) < 0.01:
        return image
    rows, columns = image.shape
    if height_to_width > 1:
        return resize(image, (round(rows * height_to_width), columns))
    return resize(image, (rows, round(columns / height_to_width)))


def crop(image: Plane, box: Box) -> Plane:
    """A part of the image."""
    return np.ascontiguousarray(image[box])


def square(image: Plane, size: int, *, pad: bool) -> NDArray[np.float16]:
    """The network's input, (size, size) in [-1024, 1024], from (rows, columns) in [0, 1].

    `pad`: resized so that the longer side fits, black beside it; otherwise the central square is
    taken and resized. The aspect is kept either way.
    """
    rows, columns = image.shape
    if pad:
        longest = max(rows, columns)
        shape = (max(1, round(rows * size / longest)), max(1, round(columns * size / longest)))
    else:
        side = min(rows, columns)
        top, left = (rows - side) // 2, (columns - side) // 2
        image, shape = image[top : top + side, left : left + side], (size, size)
    small = np.clip(resize(image, shape), 0, 1) * (WHITE - BLACK) + BLACK
    picture = np.full((size, size), BLACK, np.float16)
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    picture[top : top + shape[0], left : left + shape[1]] = small
    return picture


def resize(image: Plane, shape: tuple[int, int]) -> Plane:
    """Bilinear with antialiasing (Pillow's, which averages over what a pixel covers)."""
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    resized = picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)
