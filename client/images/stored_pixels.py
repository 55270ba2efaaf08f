"""The stored bits of each pixel cell, and whether the header is right about them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from .elements import element_number
from .reading import Remark, UnusableImage

StoredValues = NDArray[np.integer[Any]]

TOO_FEW: Remark = "header states too few bits"

CONTINUED = 0.3
"""Share of the neighbours whose bits above the stated ones differ by 1 that must be nearer to each
other with these bits than without. Of bits that belong to the values nearly all are; of an overlay
or rubbish over a smooth image none, and over noise one eighth."""

RANDOM, ORDERED = 0.8, 0.4
"""Mean difference of neighbours, in standard deviations of the values, above which values are as
good as random (1.13 if they are), and below which they are an image (0.01 to 0.2)."""

DISORDERED, SWAPPED = 0.3, 0.25
"""Mean difference of neighbours, in standard deviations, from which the order of bytes is doubted,
and the share of it that is left if they are swapped. Of 120 real radiographs of 12 and 16 bits with
swapped bytes the least were 0.40 and the largest share 0.19; as they are, the largest was 0.19."""

ABOVE = 0.01
"""Share of pixels above the stated bits from which a decoded stream has more bits than stated.
Lossy coding oversteps the limits in a few pixels."""

LEAST_TORN = 0.001
"""Share of neighbours that must be torn apart by the stated sign before it is taken to be wrong."""

FEWEST_BITS_TO_DOUBT_SIGN = 10
"""Values of fewer bits may well be black and white only, which looks alike in both signs."""


@dataclass(frozen=True)
class StoredPixels:
    """Stored values, (rows, columns), with the bits and the sign that they really have."""

    values: StoredValues
    bits: int
    signed: bool
    remarks: tuple[Remark, ...] = ()

    @cached_property
    def possible(self) -> tuple[int, int]:
        """The smallest and largest value that the bits and sign allow, or that is there."""
        low = -(2 ** (self.bits - 1)) if self.signed else 0
        return min(low, int(self.values.min())), max(low + 2**self.bits - 1, int(self.values.max()))


def cell_pixels(cells: StoredValues, dataset: Dataset) -> StoredPixels:
    """The stored bits of whole pixel cells, sign-extended if they are signed.

    Old files hold overlays or rubbish in the other bits (PS3.5, 8.1.1), which are cut off. But
    some headers state too few bits: cutting would wrap the values round, and show contour lines. So
    the bits above are kept if they continue the values.

    Parameters
    ----------
    cells
        Pixel cells, (rows, columns), with the sign of the header.
    dataset
        Bits Stored, High Bit, Pixel Representation and overlays.

    Raises
    ------
    UnusableImage
        If the bytes of the cells are swapped.
    """
    allocated, bits = 8 * cells.dtype.itemsize, _number(dataset, "BitsStored")
    signed = cells.dtype.kind == "i"
    if not 1 <= bits <= allocated:
        return StoredPixels(cells, allocated, signed, ("header states other bits",))
    native: StoredValues = cells.astype(cells.dtype.newbyteorder("="), copy=False)
    high = _number(dataset, "HighBit")
    remarks: tuple[Remark, ...] = ()
    if high >= 0 and (not bits - 1 <= high < allocated or _lies_low(native, bits, high)):
        remarks = ("header states other bits",)
    if high < 0 or remarks:
        high = bits - 1
    stated = StoredPixels(_cut(native, bits, high, signed), bits, signed, remarks)
    require_byte_order(native, stated.values)
    doubted = _with_more_bits(native, stated, _overlay_bits(dataset)) if high == bits - 1 else None
    return doubted or _with_true_sign(stated)


def stream_pixels(values: StoredValues, dataset: Dataset) -> StoredPixels:
    """The values of a decoded stream, which has stored bits alone.

    JPEG and JPEG-LS have no signed values: their unsigned ones hold the stored bits of a negative
    value. `values` are signed only if the stream says so.
    """
    allocated, bits = 8 * values.dtype.itemsize, _number(dataset, "BitsStored")
    signed = _number(dataset, "PixelRepresentation") == 1
    bits = bits if 1 <= bits <= allocated else allocated
    remarks: tuple[Remark, ...] = ()
    magnitude = np.abs(values.astype(np.int64)) if values.dtype.kind == "i" else values
    beyond = magnitude > 2 ** (bits - 1 if values.dtype.kind == "i" else bits) - 1
    if beyond.any() and beyond.mean() > ABOVE:
        bits = int(magnitude.max()).bit_length() + (values.dtype.kind == "i")
        remarks = (TOO_FEW,)
    if signed and values.dtype.kind == "u":
        values = _cut(values, bits, bits - 1, signed=True)
    return _with_true_sign(StoredPixels(values, bits, values.dtype.kind == "i", remarks))


def require_byte_order(cells: StoredValues, stated: StoredValues) -> None:
    """Raise UnusableImage if neighbours are far more alike once the two bytes of each value are
    swapped. In any window they would look like noise.

    Parameters
    ----------
    cells
        Pixel cells, (rows, columns).
    stated
        Their stored bits. Rubbish in the others is no sign of anything.
    """
    rows = _some_rows(cells)
    some = cells[rows]
    if cells.dtype.itemsize != 2 or min(map(_differing, (some, stated[rows]))) < DISORDERED:
        return
    swapped = some.byteswap()
    either_sign = (_differing(swapped.view("u2")), _differing(swapped.view("i2")))
    if min(either_sign) < SWAPPED * _differing(some):
        raise UnusableImage(
            "the two bytes of each pixel value are in the wrong order; export the file again"
        )


def _differing(values: StoredValues) -> float:
    """Mean difference of neighbours in standard deviations; 0 if all are equal."""
    spread = float(values.std())
    return _roughness(values) / spread if spread > 0 else 0.0


def _number(dataset: Dataset, keyword: str) -> int:
    number = element_number(dataset, keyword)
    return -1 if np.isnan(number) else int(number)


def _cut(cells: StoredValues, bits: int, high: int, signed: bool) -> StoredValues:
    """The `bits` bits of each cell up to the bit `high`, with or without a sign."""
    allocated = 8 * cells.dtype.itemsize
    kind = f"{'i' if signed else 'u'}{cells.dtype.itemsize}"
    if bits == allocated:
        return cells.view(kind)
    left, right = allocated - 1 - high, allocated - bits
    alone: StoredValues = np.right_shift(np.left_shift(cells, left).view(kind), right)
    return alone


def _lies_low(cells: StoredValues, bits: int, high: int) -> bool:
    """Whether the values lie in the lowest bits although High Bit places them higher."""
    raw = cells.view(f"u{cells.dtype.itemsize}")
    return (
        high > bits - 1
        and int(raw.max()) < 2**bits
        and bool((raw & (2 ** (high - bits + 1) - 1)).any())
    )


def _with_more_bits(
    cells: StoredValues, stated: StoredPixels, overlays: int
) -> StoredPixels | None:
    """The pixels with all bits that are in use, if those above the stated ones belong to them.

    Bits that an overlay of the header takes are not counted.
    """
    allocated, bits = 8 * cells.dtype.itemsize, stated.bits
    raw = cells.view(f"u{cells.dtype.itemsize}") & (2**allocated - 1 & ~overlays)
    if not (raw >> bits).any() or np.array_equal(cells, stated.values):
        return None
    as_signed = _cut(cells, bits, bits - 1, signed=True)
    if np.array_equal(
        cells.view(as_signed.dtype), as_signed
    ):  # nothing but signs in the upper bits
        if _torn(raw, bits, signed=True):
            return None
        return StoredPixels(as_signed, bits, True, ("header states other sign",))
    needed = int(raw.max()).bit_length()
    signed = needed == allocated and _torn(raw, allocated, signed=False)
    best = StoredPixels(_cut(raw, needed, needed - 1, signed), needed, signed, (TOO_FEW,))
    continued = _continued(raw, bits) > CONTINUED
    if not continued and _roughness(stated.values) > RANDOM * float(stated.values.std()):
        # Noisy values that are cut to a small range are random. In a larger one they have an order.
        continued = _roughness(best.values) < ORDERED * float(best.values.std())
    return best if continued else None


def _continued(raw: StoredValues, bits: int) -> float:
    """Of the neighbours in a row whose bits above the lowest `bits` differ by 1, the share that is
    nearer to each other with these bits than without. Differences wrap round, as those of signed
    values in unsigned cells do."""
    allocated = 8 * raw.dtype.itemsize
    some = raw[_some_rows(raw)].astype(np.int64)
    upper = np.diff(some >> bits, axis=1) % 2 ** (allocated - bits)
    low = np.abs(np.diff(some & (2**bits - 1), axis=1))
    whole = np.diff(some, axis=1) % 2**allocated
    whole = np.minimum(whole, 2**allocated - whole)
    step = (upper == 1) | (upper == 2 ** (allocated - bits) - 1)
    return float((whole < low)[step].mean()) if step.any() else 0.0


def _with_true_sign(stated: StoredPixels) -> StoredPixels:
    """The pixels with the other sign, if the stated one tears apart what the other leaves whole."""
    bits = stated.bits
    raw = stated.values.view(f"u{stated.values.dtype.itemsize}")
    if bits < FEWEST_BITS_TO_DOUBT_SIGN or not _torn(raw, bits, stated.signed):
        return stated
    other = _cut(raw, bits, bits - 1, not stated.signed)
    remarks: tuple[Remark, ...] = (*stated.remarks, "header states other sign")
    return StoredPixels(other, bits, not stated.signed, remarks)


def _torn(raw: StoredValues, bits: int, signed: bool) -> bool:
    """Whether neighbours lie at opposite ends of the range of so many bits with this sign, and
    next to each other with the other sign, far more often than the other way round."""
    some = raw[_some_rows(raw)].astype(np.int64) & (2**bits - 1)
    distance = np.abs(np.diff(some, axis=1))[np.diff(some >> (bits - 1), axis=1) != 0]
    whole_if_unsigned = int((distance < 2 ** (bits - 2)).sum())
    whole_if_signed = int((distance > 3 * 2 ** (bits - 2)).sum())
    own, other = (whole_if_unsigned, whole_if_signed)[:: -1 if signed else 1]
    return bool(other > max(4 * own, LEAST_TORN * some.size))


def _roughness(values: StoredValues) -> float:
    """Mean difference of neighbours in a row."""
    some = values[_some_rows(values)].astype(np.int64)
    return float(np.abs(np.diff(some, axis=1)).mean()) if some.shape[1] > 1 else 0.0


def _some_rows(values: StoredValues) -> slice:
    """Some 256 rows, which are enough to judge an image by."""
    return slice(None, None, max(1, len(values) // 256))


def _overlay_bits(dataset: Dataset) -> int:
    """The bits that overlays of the header take (group 60xx without data of its own), as a mask."""
    mask = 0
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0102) in dataset and (group, 0x3000) not in dataset:
            position = dataset[group, 0x0102].value
            if isinstance(position, int) and 0 <= position < 32:
                mask |= 1 << position
    return mask
