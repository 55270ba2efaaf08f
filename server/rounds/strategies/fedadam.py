"""FedAdam: Adam at the server.

Source: Reddi et al. 2021, Adaptive Federated Optimization, ICLR, Algorithm 2; arXiv 2003.00295.
"""

import numpy as np

from fedrad.exchange.encoding import Flat

from .server_optimizer import ServerOptimizer


class FedAdam(ServerOptimizer):
    """m ← β₁m + (1-β₁)Δ, v ← β₂v + (1-β₂)Δ², a step of ηm/(√v + τ); v starts at τ².

    Bias is not corrected, as in the paper.
    """

    default_rate = 1e-3  # of the order of the learning rates at sites

    def initial_moments(self) -> dict[str, float]:
        """m starts at 0, v at τ²."""
        return {"m": 0.0, "v": self.server.tau**2}

    def step(
        self, delta: Flat, rate: np.float32, moments: dict[str, Flat]
    ) -> tuple[Flat, dict[str, Flat]]:
        """One step; see `ServerOptimizer.step`."""
        m = self.momentum * moments["m"]
        m += (1 - self.momentum) * delta
        v = self.second_moment(moments["v"], delta**2)
        root = np.sqrt(v) + np.float32(self.server.tau)
        return np.divide(rate * m, root, dtype=np.float32), {"m": m, "v": v}

    def second_moment(self, v: Flat, square: Flat) -> Flat:
        """The next v, (size,), from v and Δ²."""
        return self.server.beta_2 * v + (1 - self.server.beta_2) * square
