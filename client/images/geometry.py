"""From the displayed image to the square picture that the network sees."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .arrays import Box, Plane

BLACK, WHITE = -1024.0, 1024.0
"""The value range of torchxrayvision's networks (`torchxrayvision.utils.normalize`)."""


def true_proportions(image: Plane, height_to_width: float) -> Plane:
    """The image with square pixels, where `height_to_width` is the ratio of one pixel's sides. The
    coarser direction is resampled to the finer one, so no detail is lost."""
    if abs(height_to_width - 1) < 0.01:
        return image
    rows, columns = image.shape
    if height_to_width > 1:
        return resize(image, (round(rows * height_to_width), columns))
    return resize(image, (rows, round(columns / height_to_width)))


def crop(image: Plane, box: Box) -> Plane:
    """A rectangle of the image."""
    return np.ascontiguousarray(image[box])


def square(image: Plane, size: int, *, pad: bool) -> NDArray[np.float16]:
    """The network's input, (size, size) in [-1024, 1024], from an image (rows, columns) in [0, 1].

    With `pad` the longer side is resized to `size` and the rest is black. Without it the central
    square is resized. Both preserve the aspect ratio.
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
    """Resize to (rows, columns), bilinear with Pillow's antialiasing, which averages over the area
    of each new pixel."""
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    resized = picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)
