"""Packed tensors: one flat array of bytes, and a manifest that describes its content.

Flower has a cost per tensor, so all tensors of a stage are sent as one array.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import prod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints

from fedrad.models.settings import Stage

from .bounds import RoundNumber
from .encoding import BYTES_PER_VALUE, Flat, Packed, decode, encode
from .experiment import Encoding
from .wire import Hash, Wire

TensorName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,200}$")]
Shape = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=8)]
Scale = Annotated[float, Field(ge=0, le=float(np.finfo(np.float32).max))]
MOST_TENSORS = 5000
RUNNING_STATISTICS = ("running_mean", "running_var")
"""Endings of the names of tensors that are measured, not learned."""
NO_BYTES = sha256(b"").hexdigest()


class UpdateError(Exception):
    """A packed array does not match its manifest, or the manifest does not match the experiment."""


class Manifest(Wire):
    """Description of a packed array.

    `shapes[i]` belongs to `names[i]`; tensors follow each other in that order, row-major. With
    another `encoding` than float32, tensors of two and more dimensions are differences to a
    reference that both ends hold; `reference` is the SHA-256 of its float32 values in the same
    order, and with int8 `scales` has one value for each of these tensors. All other tensors are
    float32. `base_sha256` identifies the base weights, `sha256` the bytes of the array.
    """

    format: Literal[2] = 2
    round: RoundNumber
    stage: Stage
    names: list[TensorName] = Field(max_length=MOST_TENSORS)
    shapes: list[Shape] = Field(max_length=MOST_TENSORS)
    encoding: Encoding = "float32"
    scales: list[Scale] = Field(default=[], max_length=MOST_TENSORS)
    reference: Hash | None = None
    base_sha256: Hash
    sha256: Hash

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(prod(shape) for shape in self.shapes)

    def slices(self) -> dict[str, slice]:
        """Name of each tensor -> its range among the values."""
        result, start = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            result[name] = slice(start, start + prod(shape))
            start += prod(shape)
        return result

    def encodings(self) -> list[Encoding]:
        """Encoding of each tensor."""
        return [self.encoding if len(shape) > 1 else "float32" for shape in self.shapes]

    def learned(self) -> NDArray[np.bool_]:
        """Mask (size,) of the learned values: all but running statistics."""
        mask = np.ones(self.size, bool)
        for name, where in self.slices().items():
            mask[where] = not name.endswith(RUNNING_STATISTICS)
        return mask

    def with_reference(self, reference: Flat) -> "Manifest":
        """The same manifest for differences to these values."""
        return self.model_copy(update={"reference": values_sha256(reference)})

    @property
    def nbytes(self) -> int:
        """Bytes of the packed array."""
        each = zip(self.shapes, self.encodings(), strict=True)
        return sum(prod(shape) * BYTES_PER_VALUE[how] for shape, how in each)


def flatten(tensors: Mapping[str, NDArray[np.float32]], names: Sequence[str]) -> Flat:
    """Concatenate the named tensors into one float32 array (size,)."""
    return np.concatenate([np.asarray(tensors[name], np.float32).ravel() for name in names])


def values_sha256(flat: Flat) -> str:
    """SHA-256 of values, by which both ends identify a reference."""
    return sha256(np.ascontiguousarray(flat, "<f4").data).hexdigest()


def pack(
    tensors: Mapping[str, NDArray[np.float32]],
    names: Sequence[str],
    *,
    round_: int,
    stage: Stage,
    base_sha256: str,
    encoding: Encoding = "float32",
    reference: Flat | None = None,
) -> tuple[Manifest, Packed]:
    """Pack the named tensors.

    Parameters
    ----------
    tensors
        Name -> tensor.
    names
        Names of those to pack, in this order.
    round_, stage, base_sha256
        For the manifest; rounds count from 0.
    encoding
        How values are encoded.
    reference
        (size,) values in the same order, to which differences are taken; needed with all encodings
        but float32.

    Returns
    -------
    manifest
        Description of the packed array.
    packed
        Its bytes.

    Raises
    ------
    UpdateError
        A value is not finite, or the reference is missing.
    """
    manifest = Manifest(
        round=round_,
        stage=stage,
        names=list(names),
        shapes=[list(np.shape(tensors[name])) for name in names],
        encoding=encoding,
        reference=None if reference is None else values_sha256(reference),
        base_sha256=base_sha256,
        sha256=NO_BYTES,
    )
    parts, scales = [], []
    encodings = zip(manifest.slices().items(), manifest.encodings(), strict=True)
    for (name, where), how in encodings:
        values = np.asarray(tensors[name], np.float32).ravel()
        if how != "float32":
            values = values - _needed(reference)[where]
        part, scale = encode(values, how)
        parts.append(part)
        if how == "int8":
            scales.append(scale)
    if not np.isfinite(scales).all():
        raise UpdateError("tensors hold values that are not finite")
    packed = np.concatenate(parts)
    sealed = {"scales": scales, "sha256": sha256(packed.data).hexdigest()}
    return manifest.model_copy(update=sealed), packed


def unpack(manifest: Manifest, packed: Packed, reference: Flat | None = None) -> Flat:
    """Decode a packed array that has passed `check_packed`.

    Parameters
    ----------
    manifest, packed
        The array and its description.
    reference
        (size,) values to which the array holds differences, if it does.

    Returns
    -------
    ndarray
        (size,) the values.

    Raises
    ------
    UpdateError
        A value is not finite, or the reference is missing.
    """
    flat = np.empty(manifest.size, np.float32)
    scales = iter(manifest.scales)
    start = 0
    for where, how in zip(manifest.slices().values(), manifest.encodings(), strict=True):
        end = start + (where.stop - where.start) * BYTES_PER_VALUE[how]
        values = decode(packed[start:end], how, next(scales) if how == "int8" else 1.0)
        flat[where] = values if how == "float32" else _needed(reference)[where] + values
        start = end
    if not np.isfinite(flat).all():
        raise UpdateError("array holds values that are not finite")
    return flat


def unflatten(manifest: Manifest, flat: Flat) -> dict[str, NDArray[np.float32]]:
    """The tensors of unpacked values (size,), as views of them."""
    return {
        name: flat[where].reshape(shape)
        for (name, where), shape in zip(manifest.slices().items(), manifest.shapes, strict=True)
    }


def check_packed(manifest: Manifest, packed: Packed, expected: Manifest) -> None:
    """Check a packed array against what was expected.

    Round, stage, base weights, encoding, reference, names and shapes must be equal; the array must
    have the size that follows from them and the SHA-256 of its manifest.

    Parameters
    ----------
    manifest, packed
        What was received.
    expected
        What it should be; its `sha256` and `scales` are not used.

    Raises
    ------
    UpdateError
        Names the first fault, in words of this side: what was received may be hostile.
    """
    for field in ("round", "stage", "encoding"):
        if getattr(manifest, field) != getattr(expected, field):
            raise UpdateError(
                f"{field} is {getattr(manifest, field)}, expected {getattr(expected, field)}"
            )
    for field in ("base_sha256", "reference"):
        if getattr(manifest, field) != getattr(expected, field):
            raise UpdateError(f"{field} is another than the expected")
    if manifest.names != expected.names:
        lacking = [name for name in expected.names if name not in set(manifest.names)]
        same = sorted(manifest.names) == sorted(expected.names)
        what = f"lacks {', '.join(lacking[:3])}" if lacking else "their number"
        raise UpdateError(f"tensors differ from the stage's: {'their order' if same else what}")
    if manifest.shapes != expected.shapes:
        raise UpdateError("shapes differ from the stage's")
    if len(manifest.scales) != manifest.encodings().count("int8"):
        raise UpdateError("scales are not one for each int8 tensor")
    if packed.dtype != np.uint8 or packed.shape != (expected.nbytes,):
        raise UpdateError(
            f"array is {packed.dtype} {packed.shape}, expected uint8 ({expected.nbytes},)"
        )
    if sha256(packed.data).hexdigest() != manifest.sha256:
        raise UpdateError("array does not have the SHA-256 of its manifest")


def _needed(reference: Flat | None) -> Flat:
    if reference is None:
        raise UpdateError("differences, and no reference they could be to")
    return reference
