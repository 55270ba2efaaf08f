"""How the values of a tensor travel: as they are, or fewer bits of their difference to a reference.

Convolutions and the head, which are nearly all of a network, are encoded; tensors of one dimension
(normalisation, biases) are 0.4 % of a ResNet-50, decide much, and travel as float32.
"""

import numpy as np
from numpy.typing import NDArray

from .experiment import Encoding

Flat = NDArray[np.float32]
Packed = NDArray[np.uint8]

BYTES_PER_VALUE: dict[Encoding, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
"""Bytes a value takes."""
_LEVELS = 127


def encode(values: Flat, encoding: Encoding) -> tuple[Packed, float]:
    """Values (n,) as bytes (n * BYTES,), little-endian, and their scale (1 except for int8).

    int8 spaces 255 levels evenly between minus and plus the largest magnitude; float16 and
    bfloat16 round to nearest, ties to even. What is not finite, or becomes so, stays so (with int8
    in the scale), for the receiver to refuse.
    """
    scale = 1.0
    if encoding == "int8":
        scale = float(np.abs(values).max(initial=0.0) / np.float32(_LEVELS)) or 1.0
        with np.errstate(invalid="ignore"):
            levels = np.rint(values / np.float32(scale)).clip(-_LEVELS, _LEVELS)
        return np.nan_to_num(levels).astype(np.int8).view(np.uint8), scale
    if encoding == "bfloat16":
        bits = values.astype("<f4").view("<u4")
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        rounded[np.isnan(values)] = 0x7FC0  # rounding up would carry into the sign
        return rounded.astype("<u2").view(np.uint8), scale
    with np.errstate(over="ignore"):
        kind = "<f2" if encoding == "float16" else "<f4"
        return values.astype(kind, copy=False).view(np.uint8), scale


def decode(data: Packed, encoding: Encoding, scale: float = 1.0) -> Flat:
    """The values that `encode` made bytes of; for float32 these themselves, as a view."""
    if encoding == "int8":
        return data.view(np.int8).astype(np.float32) * np.float32(scale)
    if encoding == "bfloat16":
        return (data.view("<u2").astype("<u4") << 16).view("<f4").astype(np.float32, copy=False)
    kind = "<f2" if encoding == "float16" else "<f4"
    return data.view(kind).astype(np.float32, copy=False)
