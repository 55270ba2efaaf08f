"""FedYogi: Yogi at the server.

Source: Reddi et al. 2021, Adaptive Federated Optimization, ICLR, Algorithm 2; arXiv 2003.00295.
"""

import numpy as np

from fedrad.exchange.encoding import Flat

from .fedadam import FedAdam


class FedYogi(FedAdam):
    """FedAdam, but v changes additively: v ← v - (1-β₂)Δ² sign(v - Δ²)."""

    def second_moment(self, v: Flat, square: Flat) -> Flat:
        """The next v, (size,), from v and Δ²."""
        moved: Flat = v - (1 - self.server.beta_2) * square * np.sign(v - square)
        return moved
