"""The interface of a strategy: how it combines the sites' updates and updates the global model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from fedrad.exchange.encoding import Flat
from fedrad.exchange.strategies import ServerSettings
from fedrad.exchange.update import Manifest
from fedrad.server.rounds.aggregation import Values
from fedrad.server.rounds.global_model import Tensors
from fedrad.server.rounds.spool import SpooledUpdate, ValuesOnDisk


class Strategy(ABC):
    """Combines the updates of a round, then updates the global model with the result.

    A new strategy defines `combined`. It also defines `move`, unless the combined values are the
    new global model. Its settings are checked in `exchange.strategies`, because sites must refuse
    an invalid experiment too.

    Attributes
    ----------
    weighted
        Whether a site is weighted by its patients or images (`federation.weighting`). If not, all
        sites have the same weight.
    server
        Settings `[federation.server]`; each strategy uses some of them.
    """

    weighted: ClassVar[bool] = True

    def __init__(self, server: ServerSettings) -> None:
        self.server = server

    def combine(self, updates: Mapping[str, SpooledUpdate], manifest: Manifest) -> Flat:
        """Combine the updates of the sites.

        The updates are sorted by the names of the sites, so the order of arrival does not matter.

        Parameters
        ----------
        updates
            Site -> its update on disk.
        manifest
            Positions of the tensors among the values.

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
    def combined(self, arrays: Sequence[ValuesOnDisk], shares: Values, manifest: Manifest) -> Flat:
        """Combine the sites' arrays, in blocks of values, so that memory is bounded.

        Parameters
        ----------
        arrays
            Each site's values (size,) float32, on disk.
        shares
            Weight of each site, (sites,) float64, with sum 1.
        manifest
            Positions of the tensors among the values.

        Returns
        -------
        Flat
            Combined values, (size,) float32.
        """

    def move(
        self, combined: Flat, start: Flat, current: Flat, manifest: Manifest, moments: Tensors
    ) -> tuple[Flat, Tensors]:
        """Update the global model by the difference of `combined` and `start`.

        Parameters
        ----------
        combined
            Combined values of the sites, (size,).
        start
            Values that the sites trained from, (size,).
        current
            Global values, (size,). They differ from `start` by the encoding error.
        manifest
            Positions of the tensors among the values.
        moments
            Moments that the strategy returned in the last round, by name; empty at first.

        Returns
        -------
        tuple[Flat, Tensors]
            The next global values, (size,) float32, and the moments to keep for the next round.
        """
        return combined + (current - start), {}
