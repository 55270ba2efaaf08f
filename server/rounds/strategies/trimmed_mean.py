"""Trimmed mean: the mean of each value over the sites, without the smallest and largest values.

Source: Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates,
ICML, Definition 2; arXiv 1803.01498.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import trim_mean

from fedrad.exchange.encoding import Flat
from fedrad.exchange.update import Manifest
from fedrad.server.rounds.aggregation import Values, blocks
from fedrad.server.rounds.spool import ValuesOnDisk

from .strategy import Strategy


class TrimmedMean(Strategy):
    """The mean of the sites' values without the share `trim` at either end."""

    weighted = False

    def combined(self, arrays: Sequence[ValuesOnDisk], shares: Values, manifest: Manifest) -> Flat:
        """The trimmed mean; ⌊trim·sites⌋ values are left out at either end."""
        result = np.empty(manifest.size, np.float32)
        for part, block in blocks(arrays):
            result[part] = trim_mean(block, self.server.trim, axis=0)
        return result
