"""FedAvg: the weighted mean of the sites' values.

Source: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized
Data, AISTATS, Algorithm 1; arXiv 1602.05629.
"""

from collections.abc import Sequence

import numpy as np

from fedrad.exchange.encoding import Flat
from fedrad.exchange.update import Manifest
from fedrad.server.rounds.aggregation import Values, blocks
from fedrad.server.rounds.spool import ValuesOnDisk

from .strategy import Strategy


class FedAvg(Strategy):
    """The weighted mean. Running variances are pooled together with their running means."""

    def combined(self, arrays: Sequence[ValuesOnDisk], shares: Values, manifest: Manifest) -> Flat:
        """Σ wₖxₖ, summed in float64 and in the order of the sites."""
        result = np.empty(manifest.size, np.float32)
        for part, block in blocks(arrays):
            result[part] = _mean(block, shares)
        _pool_variances(result, arrays, shares, manifest)
        return result


def _mean(block: Values, shares: Values) -> Values:
    total = np.zeros(block.shape[1])
    for values, share in zip(block, shares, strict=True):
        total += share * values
    return total


def _pool_variances(
    result: Flat, arrays: Sequence[ValuesOnDisk], shares: Values, manifest: Manifest
) -> None:
    """The variance of a mixture is the mean variance plus the variance of the means:
    Σw(v + m²) - (Σwm)²."""
    slices = manifest.slices()
    for name, place in slices.items():
        if not name.endswith("running_var"):
            continue
        at_means = slices[name.removesuffix("running_var") + "running_mean"]
        means = np.stack([values[at_means] for values in arrays]).astype(np.float64)
        variances = np.stack([values[place] for values in arrays]).astype(np.float64)
        result[place] = _mean(variances + means**2, shares) - _mean(means, shares) ** 2
