"""Packed tensors: one flat array and a manifest that says what is in it.

Flower's cost is per tensor, so all tensors of a stage travel as one array.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedrad.models.settings import Stage

from .wire import Wire


class UpdateError(Exception):
    """A packed array that is not what its manifest, or the experiment, says."""


class Manifest(Wire):
    """What a packed array holds.

    `shapes[i]` belongs to `names[i]`; tensors lie one behind the other in that order, row-major.
    `base_sha256` identifies the base weights they belong to, `sha256` the array's bytes.
    """

    format: Literal[1] = 1
    round: int
    stage: Stage
    names: list[str]
    shapes: list[list[int]]
    dtype: Literal["float32"] = "float32"
    base_sha256: str
    sha256: str

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(prod(shape) for shape in self.shapes)

    def slices(self) -> dict[str, slice]:
        """Where each tensor lies in the flat array."""
        result, start = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            result[name] = slice(start, start + prod(shape))
            start += prod(shape)
        return result


def pack(
    tensors: Mapping[str, NDArray[np.float32]],
    names: Sequence[str],
    *,
    round_: int,
    stage: Stage,
    base_sha256: str,
) -> tuple[Manifest, NDArray[np.float32]]:
    """Lay the named tensors into one flat float32 array."""
    parts = [np.asarray(tensors[name], dtype=np.float32) for name in names]
    flat = np.concatenate([part.ravel() for part in parts])
    manifest = Manifest(
        round=round_,
        stage=stage,
        names=list(names),
        shapes=[list(part.shape) for part in parts],
        base_sha256=base_sha256,
        sha256=sha256(flat.tobytes()).hexdigest(),
    )
    return manifest, flat


def unpack(manifest: Manifest, flat: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The tensors of a packed array, as views of it."""
    return {
        name: flat[where].reshape(shape)
        for (name, where), shape in zip(manifest.slices().items(), manifest.shapes, strict=True)
    }


def check(manifest: Manifest, flat: NDArray[np.float32], expected: Manifest) -> None:
    """Hold a packed array against what was expected. Raises UpdateError with the first fault.

    Equal must be: round, stage, base weights, names and shapes; the array must have their size,
    be float32, have the stated hash and be finite.
    """
    for field in ("round", "stage", "base_sha256"):
        if getattr(manifest, field) != getattr(expected, field):
            raise UpdateError(
                f"{field} is {getattr(manifest, field)}, expected {getattr(expected, field)}"
            )
    if manifest.names != expected.names:
        odd = sorted(set(manifest.names) ^ set(expected.names))
        raise UpdateError(f"tensors differ from the stage's: {', '.join(odd[:3]) or 'their order'}")
    if manifest.shapes != expected.shapes:
        raise UpdateError("shapes differ from the stage's")
    if flat.dtype != np.float32 or flat.shape != (expected.size,):
        raise UpdateError(
            f"array is {flat.dtype} {flat.shape}, expected float32 ({expected.size},)"
        )
    if sha256(flat.tobytes()).hexdigest() != manifest.sha256:
        raise UpdateError("array does not have the SHA-256 of its manifest")
    if not np.isfinite(flat).all():
        raise UpdateError("array holds values that are not finite")
