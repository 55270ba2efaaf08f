"""FedAvgM: FedAvg with momentum at the server.

Source: Hsu, Qi & Brown 2019, Measuring the Effects of Non-Identical Data Distribution for Federated
Visual Classification; arXiv 1909.06335.
"""

import numpy as np

from fedrad.exchange.encoding import Flat

from .server_optimizer import ServerOptimizer


class FedAvgM(ServerOptimizer):
    """m ← βm + Δ, a step of ηm."""

    default_rate = 1.0

    def step(
        self, delta: Flat, rate: np.float32, moments: dict[str, Flat]
    ) -> tuple[Flat, dict[str, Flat]]:
        """One step; see `ServerOptimizer.step`."""
        m = self.momentum * moments["m"] + delta
        return rate * m, {"m": m}
