"""Krum: the update of the one site that is nearest to its neighbours.

Source: Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient
Descent, NeurIPS, section 4.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import cdist

from fedrad.exchange.encoding import Flat
from fedrad.exchange.update import Manifest
from fedrad.server.rounds.aggregation import Values, blocks
from fedrad.server.rounds.spool import ValuesOnDisk

from .strategy import Strategy


class Krum(Strategy):
    """The update with the smallest sum of squared distances to its n - f - 2 nearest neighbours,
    for n sites of which f (`byzantine`) may be hostile."""

    weighted = False

    def combined(self, arrays: Sequence[ValuesOnDisk], shares: Values, manifest: Manifest) -> Flat:
        """The values of the chosen update, unchanged."""
        distances = np.zeros((len(arrays), len(arrays)))
        for _, block in blocks(arrays):
            distances += cdist(block, block, "sqeuclidean")
        neighbours = max(1, len(arrays) - self.server.byzantine - 2)
        scores = np.sort(distances, axis=1)[:, 1 : neighbours + 1].sum(axis=1)
        return arrays[int(np.argmin(scores))][:]
