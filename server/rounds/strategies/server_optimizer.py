"""What FedAvgM, FedAdam and FedYogi share: the sites' mean step is taken for a gradient.

Source: Reddi et al. 2021, Adaptive Federated Optimization, ICLR, Algorithm 2; arXiv 2003.00295.
"""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from fedrad.exchange.encoding import Flat
from fedrad.exchange.update import Manifest, flatten, unflatten
from fedrad.server.rounds.aggregation import learned_values
from fedrad.server.rounds.global_model import Tensors

from .fedavg import FedAvg


class ServerOptimizer(FedAvg):
    """An optimiser at the server, whose gradient is Δ = (sites' mean) - (what they started from).

    Running statistics take the step Δ itself. Moments are kept by tensor, so a block that thaws
    later starts with fresh ones.
    """

    default_rate: ClassVar[float]
    """Server learning rate η where the experiment sets none."""

    def move(
        self, combined: Flat, start: Flat, current: Flat, manifest: Manifest, moments: Tensors
    ) -> tuple[Flat, Tensors]:
        """Take the optimiser's step; see `Strategy.move`."""
        held = {
            kind: _laid_out(kind, fresh, moments, manifest)
            for kind, fresh in self.fresh_moments().items()
        }
        rate = np.float32(self.server.learning_rate or self.default_rate)
        step, after = self.step(combined - start, rate, held)
        plain, _ = super().move(combined, start, current, manifest, moments)
        kept = {
            f"{kind}/{name}": value
            for kind, flat in after.items()
            for name, value in unflatten(manifest, flat).items()
        }
        return np.where(learned_values(manifest), current + step, plain), kept

    def fresh_moments(self) -> dict[str, float]:
        """The moments' names and the value each starts with."""
        return {"m": 0.0}

    @abstractmethod
    def step(
        self, delta: Flat, rate: np.float32, moments: dict[str, Flat]
    ) -> tuple[Flat, dict[str, Flat]]:
        """One step of the optimiser.

        Parameters
        ----------
        delta
            The sites' mean step Δ, (size,).
        rate
            Server learning rate η.
        moments
            Those of `fresh_moments` after the round before, (size,) each.

        Returns
        -------
        tuple[Flat, dict[str, Flat]]
            What is added to the global values, (size,), and the moments after it.
        """


def _laid_out(kind: str, fresh: float, moments: Tensors, manifest: Manifest) -> Flat:
    tensors = {
        name: moments.get(f"{kind}/{name}", np.full(shape, fresh, np.float32))
        for name, shape in zip(manifest.names, manifest.shapes, strict=True)
    }
    return flatten(tensors, manifest.names)
