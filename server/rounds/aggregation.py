"""Sites' updates on disk: their values a part at a time, their norms, and those far out."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.encoding import Flat
from fedrad.exchange.update import Manifest

from .spool import OnDisk, Spooled

VALUES_AT_ONCE = 4_000_000
"""Values of all sites together that are in memory, 32 MB as float64."""
_STATISTICS = ("running_mean", "running_var")

Values = NDArray[np.float64]


def blocks(arrays: Sequence[OnDisk]) -> Iterator[tuple[slice, Values]]:
    """Go through the values of all sites, a part at a time, so that memory stays flat.

    Parameters
    ----------
    arrays
        Each site's values (size,) float32, on disk.

    Yields
    ------
    tuple[slice, Values]
        Where the part lies among the values, and its values (sites, n) float64.
    """
    for part in _parts(len(arrays[0]), len(arrays)):
        yield part, np.stack([values[part] for values in arrays]).astype(np.float64)


def norms(updates: Mapping[str, Spooled], start: Flat, manifest: Manifest) -> dict[str, float]:
    """Euclidean length of each site's step from the values it started from, running statistics
    left out."""
    learned = learned_values(manifest)
    result = {}
    for site, update in updates.items():
        values, total = update.values, 0.0
        for part in _parts(manifest.size, 1):
            step = (values[part].astype(np.float64) - start[part])[learned[part]]
            total += float(step @ step)
        result[site] = total**0.5
    return result


def outliers(lengths: Mapping[str, float], factor: float) -> dict[str, float]:
    """Sites whose step is more than `factor` times the median's, and how many times.

    Of an even number the lower median, so that of two sites the wild one is found. Where the
    median is 0 nobody is judged.
    """
    if not lengths:
        return {}
    middle = sorted(lengths.values())[(len(lengths) - 1) // 2]
    if middle == 0:
        return {}
    return {s: length / middle for s, length in lengths.items() if length > factor * middle}


def learned_values(manifest: Manifest) -> NDArray[np.bool_]:
    """Which values are learned, and no running statistics; (size,)."""
    learned = np.ones(manifest.size, bool)
    for name, where in manifest.slices().items():
        learned[where] = not name.endswith(_STATISTICS)
    return learned


def _parts(size: int, sites: int) -> Iterator[slice]:
    step = max(1, VALUES_AT_ONCE // sites)
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))
