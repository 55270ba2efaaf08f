"""Averaging the sites' updates: from the spool, in site order, tensor by tensor.

Flower's own `FedAvg` needs all replies in memory, the same keys in each, and replaces the whole
model by what came back; here a stage's tensors are averaged from disk and merged into the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.update import Manifest


@dataclass(frozen=True)
class Spooled:
    """A checked update on disk: a flat float32 array of the manifest's layout, and its weight."""

    path: Path
    weight: float


def average(updates: Mapping[str, Spooled], manifest: Manifest) -> dict[str, NDArray[np.float32]]:
    """Weighted mean of the sites' tensors (McMahan et al. 2017, FedAvg).

    Sums run in float64 and in the order of the sites' names, so neither the order of arrival nor
    the number of sites in memory matters. Running variances are pooled: the variance of a mixture
    is the mean variance plus the variance of the means, Σw(v + m²) - (Σwm)².
    """
    total = sum(update.weight for update in updates.values())
    shares = [(updates[site].path, updates[site].weight / total) for site in sorted(updates)]
    maps = [(np.load(path, mmap_mode="r"), share) for path, share in shares]
    where = manifest.slices()
    shapes = dict(zip(manifest.names, manifest.shapes, strict=True))

    def mean(name: str) -> NDArray[np.float64]:
        values = np.zeros(where[name].stop - where[name].start)
        for flat, share in maps:
            values += share * flat[where[name]].astype(np.float64)
        return values

    def pooled_variance(name: str) -> NDArray[np.float64]:
        means = where[name.removesuffix("running_var") + "running_mean"]
        values = np.zeros(means.stop - means.start)
        for flat, share in maps:
            m = flat[means].astype(np.float64)
            values += share * (flat[where[name]].astype(np.float64) + m**2)
        return values - mean(name.removesuffix("running_var") + "running_mean") ** 2

    return {
        name: (pooled_variance(name) if name.endswith("running_var") else mean(name))
        .astype(np.float32)
        .reshape(shapes[name])
        for name in manifest.names
    }
