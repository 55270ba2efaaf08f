"""How far one update, and one step of the global model, may go.

Source of clipping an update to a norm: McMahan et al. 2018, Learning Differentially Private
Recurrent Language Models, ICLR, section 3; arXiv 1710.06963. Here it bounds what one site can do.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedrad.exchange.encoding import Flat, Packed
from fedrad.exchange.update import Manifest, UpdateError, check_packed, unpack

from .aggregation import Values, step_norm, values_in_parts

VARIANCE_FACTOR = 1000.0
"""A running variance moves in one round by at most this factor. From random weights to those of a
trained network, the variances of a ResNet move by less than a hundred."""
SMALLEST_VARIANCE = 1e-5
"""The ε of batch normalisation: below it a variance has no effect."""
LARGEST_VARIANCE = 1e12
"""So that no statistic, and no square of one, comes to infinity over many rounds."""
_INSIDE = 1 - 1e-6
"""What is scaled down to a norm stays below it when it is rounded to float32."""


@dataclass(frozen=True)
class CheckedUpdate:
    """Values (size,) of a sound update, within the limits; the norm with which it came; and whether
    it was changed to be within them."""

    values: Flat
    norm: float
    limited: bool


def checked_update(
    manifest: Manifest, packed: Packed | None, expected: Manifest, start: Flat, clip: float
) -> CheckedUpdate:
    """Check and decode a site's update, and scale it down where it goes too far.

    Parameters
    ----------
    manifest, packed
        What the site sent.
    expected
        The manifest that it must have, except for scales and hash. If it names a reference, the
        update is a difference to `start`.
    start
        (size,) values that the site trained from.
    clip
        Largest Euclidean norm of an update.

    Raises
    ------
    UpdateError
        The update is not one of this round, or holds values that are not finite.
    """
    if packed is None:
        raise UpdateError("the update came without its tensors")
    check_packed(manifest, packed, expected)
    received = unpack(manifest, packed, None if expected.reference is None else start)
    values = plausible_statistics(received, start, manifest)
    values, norm, scaled = clipped(values, start, manifest, clip)
    return CheckedUpdate(values, norm, scaled or values is not received)


def clipped(
    values: Flat, start: Flat, manifest: Manifest, largest: float
) -> tuple[Flat, float, bool]:
    """Values whose step from `start` is scaled down to the norm `largest`.

    The norm is that of the learned values. Running statistics are not scaled.

    Parameters
    ----------
    values
        (size,) values after the step.
    start
        (size,) values before it.
    manifest
        Positions of the tensors among the values.
    largest
        Largest Euclidean norm of the step, above 0.

    Returns
    -------
    values
        (size,) the same array where the norm is not above `largest`.
    norm
        Norm of the step before it was scaled.
    scaled
        Whether it was.
    """
    norm = step_norm(values, start, manifest)
    if norm <= largest:
        return values, norm, False
    learned, factor, result = manifest.learned(), largest / norm * _INSIDE, values.copy()
    for part, before, after in _steps(values, start):
        shorter = before + factor * (after - before)
        result[part] = np.where(learned[part], shorter, after)
    return result, norm, True


def plausible_statistics(values: Flat, start: Flat, manifest: Manifest) -> Flat:
    """Values whose running statistics have moved no further than training moves them.

    A norm says nothing about statistics, which have another scale than weights, and one absurd
    variance makes a network constant. A variance v becomes one between v/1000 and 1000·v of the
    round's start, and a mean moves by at most the square root of 1000·v.

    Parameters
    ----------
    values
        (size,) values of an update.
    start
        (size,) values that the site trained from.
    manifest
        Positions of the tensors among the values.

    Returns
    -------
    Flat
        (size,) the same array where all statistics are within the limits.
    """
    slices, result = manifest.slices(), values
    for name, where in slices.items():
        if not name.endswith("running_var"):
            continue
        at_means = slices.get(name.removesuffix("running_var") + "running_mean")
        most = np.minimum(
            VARIANCE_FACTOR * np.maximum(start[where].astype(np.float64), SMALLEST_VARIANCE),
            LARGEST_VARIANCE,
        )
        least = np.maximum(start[where].astype(np.float64), 0) / VARIANCE_FACTOR
        limits = [(where, least, most)]
        if at_means is not None:
            means, reach = start[at_means].astype(np.float64), np.sqrt(most)
            limits.append((at_means, means - reach, means + reach))
        for place, low, high in limits:
            allowed = values[place].clip(low, high).astype(np.float32)
            if not np.array_equal(allowed, values[place]):
                result = result.copy() if result is values else result
                result[place] = allowed
    return result


def _steps(values: Flat, start: Flat) -> Iterator[tuple[slice, Values, Values]]:
    for part in values_in_parts(len(values)):
        yield part, start[part].astype(np.float64), values[part].astype(np.float64)
