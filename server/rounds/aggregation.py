"""Updates: their values in blocks, their norms, and outliers among them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.encoding import Flat
from fedrad.exchange.update import Manifest

from .spool import ValuesOnDisk

FEWEST = 3
"""Updates that the rule for outliers needs."""
VALUES_AT_ONCE = 4_000_000
"""Most values in memory at once, over all sites; 32 MB as float64."""

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
    for part in values_in_parts(len(arrays[0]), len(arrays)):
        yield part, np.stack([values[part] for values in arrays]).astype(np.float64)


def step_norm(values: Flat | ValuesOnDisk, start: Flat, manifest: Manifest) -> float:
    """Euclidean norm of a step, without running statistics.

    Parameters
    ----------
    values
        Values after the step, (size,), in memory or on disk.
    start
        Values before it, (size,).
    manifest
        Positions of the tensors among the values.
    """
    learned, total = manifest.learned(), 0.0
    for part in values_in_parts(manifest.size):
        step = (values[part].astype(np.float64) - start[part])[learned[part]]
        total += float(step @ step)
    return float(total**0.5)


def outliers(lengths: Mapping[str, float], factor: float) -> dict[str, float]:
    """Sites whose norm is more than `factor` times the median of the norms.

    Of two sites none is an outlier: the rule cannot tell the one that goes too far from the one
    that hardly moves, and a site could make the other the outlier by a tiny step. `federation.clip`
    bounds both. For an even number of sites the lower median is used. If the median is 0, no site
    is an outlier.

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
    if len(lengths) < FEWEST:
        return {}
    middle = sorted(lengths.values())[(len(lengths) - 1) // 2]
    if middle == 0:
        return {}
    return {s: length / middle for s, length in lengths.items() if length > factor * middle}


def values_in_parts(size: int, sites: int = 1) -> Iterator[slice]:
    """Parts of `size` values, so that those of all sites in one part are bounded."""
    step = max(1, VALUES_AT_ONCE // sites)
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))
