"""Updates on disk: their values in blocks, their norms, and outliers among them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.encoding import Flat
from fedrad.exchange.update import Manifest

from .spool import SpooledUpdate, ValuesOnDisk

VALUES_AT_ONCE = 4_000_000
"""Most values in memory at once, over all sites; 32 MB as float64."""
_STATISTICS = ("running_mean", "running_var")

Values = NDArray[np.float64]


def blocks(arrays: Sequence[ValuesOnDisk]) -> Iterator[tuple[slice, Values]]:
    """Iterate over the values of all sites in blocks, so that memory is bounded.

    Parameters
    ----------
    arrays
        Each site's values (size,) float32, on disk.

    Yields
    ------
    tuple[slice, Values]
        Position of the block among the values, and its values (sites, n) float64.
    """
    for part in _parts(len(arrays[0]), len(arrays)):
        yield part, np.stack([values[part] for values in arrays]).astype(np.float64)


def norms(
    updates: Mapping[str, SpooledUpdate], start: Flat, manifest: Manifest
) -> dict[str, float]:
    """Euclidean norm of each site's update, without running statistics.

    Parameters
    ----------
    updates
        Site -> its update on disk.
    start
        Values that the sites trained from, (size,).
    manifest
        Positions of the tensors among the values.

    Returns
    -------
    dict[str, float]
        Site -> norm of the difference from `start`.
    """
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
    """Sites whose norm is more than `factor` times the median of the norms.

    For an even number of sites the lower median is used, so that an outlier among two sites is
    detected. If the median is 0, no site is an outlier.

    Parameters
    ----------
    lengths
        Site -> norm of its update.
    factor
        Largest allowed ratio of norm and median.

    Returns
    -------
    dict[str, float]
        Outlier -> ratio of its norm and the median.
    """
    if not lengths:
        return {}
    middle = sorted(lengths.values())[(len(lengths) - 1) // 2]
    if middle == 0:
        return {}
    return {s: length / middle for s, length in lengths.items() if length > factor * middle}


def learned_values(manifest: Manifest) -> NDArray[np.bool_]:
    """Mask (size,) of the learned values: all but running statistics."""
    learned = np.ones(manifest.size, bool)
    for name, where in manifest.slices().items():
        learned[where] = not name.endswith(_STATISTICS)
    return learned


def _parts(size: int, sites: int) -> Iterator[slice]:
    step = max(1, VALUES_AT_ONCE // sites)
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))
