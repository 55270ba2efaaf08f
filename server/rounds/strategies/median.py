"""The median of each value over the sites.

Source: Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates,
ICML, Definition 1; arXiv 1803.01498.
"""

from collections.abc import Sequence

import numpy as np

from fedrad.exchange.encoding import Flat
from fedrad.exchange.update import Manifest
from fedrad.server.rounds.aggregation import Values, blocks
from fedrad.server.rounds.spool import ValuesOnDisk

from .strategy import Strategy


class Median(Strategy):
    """Each value is the median of the sites' values, running statistics included."""

    weighted = False

    def combined(self, arrays: Sequence[ValuesOnDisk], shares: Values, manifest: Manifest) -> Flat:
        """The median; for an even number of sites, the mean of the middle two."""
        result = np.empty(manifest.size, np.float32)
        for part, block in blocks(arrays):
            result[part] = np.median(block, axis=0)
        return result
