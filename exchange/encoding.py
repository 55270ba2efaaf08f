"""Encodings of tensors that are sent: float32, or fewer bits per value.

`update` encodes the convolutions and the head, which are nearly all of a network, as differences
to a reference. Tensors of one dimension (normalisation, biases) are 0.4 % of a ResNet-50 and have a
strong effect, so they are sent as float32.
"""

import numpy as np
from numpy.typing import NDArray

from .experiment import Encoding

Flat = NDArray[np.float32]
Packed = NDArray[np.uint8]

BYTES_PER_VALUE: dict[Encoding, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
"""Encoding -> bytes of one value."""
_LEVELS = 127


def encode(values: Flat, encoding: Encoding) -> tuple[Packed, float]:
    """Encode values (n,) as little-endian bytes (n * BYTES_PER_VALUE,).

    int8 spaces 255 levels evenly between minus and plus the largest magnitude; float16 and
    bfloat16 round to nearest, ties to even. Values that are not finite, or become infinite, stay
    so (with int8 in the scale); the receiver then refuses the array.

    Returns
    -------
    data
        The bytes.
    scale
        Width of a level of int8; 1 for all other encodings.
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
    """Decode the bytes of `encode` into values (n,); for float32 the result is a view of them."""
    if encoding == "int8":
        return data.view(np.int8).astype(np.float32) * np.float32(scale)
    if encoding == "bfloat16":
        return (data.view("<u2").astype("<u4") << 16).view("<f4").astype(np.float32, copy=False)
    kind = "<f2" if encoding == "float16" else "<f4"
    return data.view(kind).astype(np.float32, copy=False)
