"""What a strategy is: how it combines the sites' updates, and how it moves the global model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from fedrad.exchange.encoding import Flat
from fedrad.exchange.strategies import ServerSettings
from fedrad.exchange.update import Manifest
from fedrad.server.rounds.aggregation import Values
from fedrad.server.rounds.global_model import Tensors
from fedrad.server.rounds.spool import OnDisk, Spooled


class Strategy(ABC):
    """One rule for a round: the sites' updates become one, which moves the global model.

    A strategy of one's own defines `combined`, and `move` where the global model is
    not simply set to what the sites came to. What it asks of the experiment's settings is checked
    in `exchange.strategies`, for a site must refuse a wrong experiment too.

    Attributes
    ----------
    weighted
        Whether a site counts by its patients or images (`federation.weighting`). Where it does
        not, all sites count the same.
    server
        `[federation.server]`; each strategy reads its own figures of it.
    """

    weighted: ClassVar[bool] = True

    def __init__(self, server: ServerSettings) -> None:
        self.server = server

    def combine(self, updates: Mapping[str, Spooled], manifest: Manifest) -> Flat:
        """Make one update of the sites' updates.

        They are taken in the order of the sites' names, so the order of arrival does not matter.

        Parameters
        ----------
        updates
            Name of a site -> its update on disk.
        manifest
            Says which values belong to which tensor.

        Returns
        -------
        Flat
            Combined values, (size,) float32.
        """
        ordered = [updates[site] for site in sorted(updates)]
        weights = np.array([update.weight if self.weighted else 1.0 for update in ordered])
        arrays = [update.values for update in ordered]
        return self.combined(arrays, weights / weights.sum(), manifest)

    @abstractmethod
    def combined(self, arrays: Sequence[OnDisk], shares: Values, manifest: Manifest) -> Flat:
        """Combine the sites' arrays, a part of the values at a time, so that memory stays flat.

        Parameters
        ----------
        arrays
            Each site's values (size,) float32, on disk.
        shares
            How much each site counts, (sites,) float64 of sum 1.
        manifest
            Says which values belong to which tensor.

        Returns
        -------
        Flat
            Combined values, (size,) float32.
        """

    def move(
        self, combined: Flat, start: Flat, current: Flat, manifest: Manifest, moments: Tensors
    ) -> tuple[Flat, Tensors]:
        """Take the step from `start` to `combined`, from where the global model is.

        Parameters
        ----------
        combined
            What the sites came to, (size,).
        start
            What they trained from, (size,).
        current
            The global values, (size,). They differ from `start` by what encoding lost.
        manifest
            Says which values belong to which tensor.
        moments
            What the strategy returned after the round before, by name; empty at first.

        Returns
        -------
        tuple[Flat, Tensors]
            The next global values, (size,) float32, and the moments to keep for the next round.
        """
        return combined + (current - start), {}
