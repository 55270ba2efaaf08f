"""From the sites' updates to one: over the spool, in site order, a part of the values at a time.

Flower's own strategies need all replies in memory with the same keys in each, keep their moments
by those keys from the first round on, and replace the whole model by what came back; here updates
lie on disk, stages bring new tensors, and running variances are pooled. The tests hold the figures
against Flower's.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import trim_mean

from fedrad.exchange.encoding import Flat
from fedrad.exchange.experiment import FederationSettings
from fedrad.exchange.update import Manifest

from .spool import OnDisk, Spooled

VALUES_AT_ONCE = 4_000_000
"""Values of all sites together that are in memory, 32 MB as float64."""
_STATISTICS = ("running_mean", "running_var")

Values = NDArray[np.float64]


def combine(
    updates: Mapping[str, Spooled], manifest: Manifest, settings: FederationSettings
) -> Flat:
    """One array (size,) from the sites' arrays, by the strategy's rule.

    - median, trimmed-mean: by coordinate (Yin et al. 2018), each site one voice
    - krum: the update nearest to its neighbours (Blanchard et al. 2017)
    - all others: the weighted mean (McMahan et al. 2017), running variances pooled

    Sums run in float64 and in the order of the sites' names, so the order of arrival does not
    matter.
    """
    ordered = [updates[site] for site in sorted(updates)]
    maps = [update.values for update in ordered]
    if settings.strategy == "krum":
        return maps[krum(maps, settings.server.byzantine)][:]
    weights = np.array([update.weight for update in ordered])
    shares = weights / weights.sum()
    result = np.empty(manifest.size, np.float32)
    for part in _parts(manifest.size, len(maps)):
        block = np.stack([values[part] for values in maps]).astype(np.float64)
        if settings.strategy == "median":
            result[part] = np.median(block, axis=0)
        elif settings.strategy == "trimmed-mean":
            result[part] = trim_mean(block, settings.server.trim, axis=0)
        else:
            result[part] = _mean(block, shares)
    if settings.strategy not in ("median", "trimmed-mean"):
        _pool_variances(result, maps, shares, manifest)
    return result


def krum(maps: Sequence[Flat | OnDisk], byzantine: int) -> int:
    """Which of n arrays has the smallest sum of squared distances to its n - f - 2 nearest
    neighbours (Blanchard et al. 2017, section 4); f hostile ones are reckoned with."""
    distances = np.zeros((len(maps), len(maps)))
    for part in _parts(len(maps[0]), len(maps)):
        block = np.stack([values[part] for values in maps]).astype(np.float64)
        distances += cdist(block, block, "sqeuclidean")
    neighbours = max(1, len(maps) - byzantine - 2)
    scores = np.sort(distances, axis=1)[:, 1 : neighbours + 1].sum(axis=1)
    return int(np.argmin(scores))


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


def _mean(block: Values, shares: Values) -> Values:
    total = np.zeros(block.shape[1])
    for values, share in zip(block, shares, strict=True):
        total += share * values
    return total


def _pool_variances(
    result: Flat, maps: Sequence[OnDisk], shares: Values, manifest: Manifest
) -> None:
    """The variance of a mixture is the mean variance plus the variance of the means:
    Σw(v + m²) - (Σwm)²."""
    where = manifest.slices()
    for name, place in where.items():
        if not name.endswith("running_var"):
            continue
        at_means = where[name.removesuffix("running_var") + "running_mean"]
        means = np.stack([values[at_means] for values in maps]).astype(np.float64)
        variances = np.stack([values[place] for values in maps]).astype(np.float64)
        result[place] = _mean(variances + means**2, shares) - _mean(means, shares) ** 2


def _parts(size: int, sites: int) -> Iterator[slice]:
    step = max(1, VALUES_AT_ONCE // sites)
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))
