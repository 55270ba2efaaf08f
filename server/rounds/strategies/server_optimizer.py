"""Server optimisers, the base of FedAvgM, FedAdam and FedYogi: the mean update is a gradient.

Source: Reddi et al. 2021, Adaptive Federated Optimization, ICLR, Algorithm 2; arXiv 2003.00295.
"""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from fedrad.exchange.encoding import Flat
from fedrad.exchange.update import Manifest, flatten, unflatten
from fedrad.server.rounds.global_model import Tensors

from .fedavg import FedAvg


class ServerOptimizer(FedAvg):
    """An optimiser at the server with the gradient Δ = (mean of the sites) - (start of the round).

    Running statistics move by Δ itself. Moments are stored per tensor, so a block that is unfrozen
    later starts with initial moments.
    """

    default_rate: ClassVar[float]
    """Server learning rate η if the experiment sets none."""
    default_momentum: ClassVar[float] = 0.9
    """First-moment decay β if the experiment sets none."""

    @property
    def momentum(self) -> float:
        """First-moment decay β."""
        stated = self.server.momentum
        return self.default_momentum if stated is None else stated

    def move(
        self, combined: Flat, start: Flat, current: Flat, manifest: Manifest, moments: Tensors
    ) -> tuple[Flat, Tensors]:
        """Take the optimiser's step; see `Strategy.move`."""
        before = {
            kind: _laid_out(kind, initial, moments, manifest)
            for kind, initial in self.initial_moments().items()
        }
        rate = np.float32(self.server.learning_rate or self.default_rate)
        step, after = self.step(combined - start, rate, before)
        plain, _ = super().move(combined, start, current, manifest, moments)
        next_moments = {
            f"{kind}/{name}": value
            for kind, flat in after.items()
            for name, value in unflatten(manifest, flat).items()
        }
        return np.where(manifest.learned(), current + step, plain), next_moments

    def initial_moments(self) -> dict[str, float]:
        """Name of each moment -> its initial value."""
        return {"m": 0.0}

    @abstractmethod
    def step(
        self, delta: Flat, rate: np.float32, moments: dict[str, Flat]
    ) -> tuple[Flat, dict[str, Flat]]:
        """One step of the optimiser.

        Parameters
        ----------
        delta
            Mean update Δ of the sites, (size,).
        rate
            Server learning rate η.
        moments
            Name -> moment after the last round, (size,), or its initial value.

        Returns
        -------
        tuple[Flat, dict[str, Flat]]
            The step to add to the global values, (size,), and the next moments, (size,) each.
        """


def _laid_out(kind: str, initial: float, moments: Tensors, manifest: Manifest) -> Flat:
    tensors = {
        name: moments.get(f"{kind}/{name}", np.full(shape, initial, np.float32))
        for name, shape in zip(manifest.names, manifest.shapes, strict=True)
    }
    return flatten(tensors, manifest.names)
