"""How the released counts of several models divide the same patients.

A model that differs from another one by little, such as by a shift of all scores, has bins that
begin and end between other patients. The difference of two such counts is a count of the patients
between, and of no fewer than a bin may have.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.histogram import Histogram, grid_cells
from fedrad.stats.exact import Logits, Units

from .disclosure import Disclosure

Side = NDArray[np.bool_]
"""(n,) which of n units are on one side of an edge."""


class Divided:
    """The divisions of the units of a release for one outcome.

    An edge of a histogram is used only if it divides the patients like one that was used before, or
    differently for at least `minimum_bin` of them (the same with sides exchanged). So all edges
    together make no smaller group, as long as the models order the patients alike, or one patient
    differently. Models that order several patients differently, each otherwise, can still make one.

    Parameters
    ----------
    disclosure
        The disclosure rule of the site.
    """

    def __init__(self, disclosure: Disclosure) -> None:
        self.disclosure = disclosure
        self._sides: list[Side] = []

    def histogram(self, logits: Logits, units: Units, at: Sequence[int] = ()) -> Histogram:
        """Histogram of logits (n,), whose inner edges are added. Parameters as in
        `Disclosure.histogram`."""
        cells = grid_cells(logits)
        histogram = self.disclosure.histogram(
            logits, units, list(at), lambda edge: self.allows(cells < edge, units)
        )
        self._sides += [cells < edge for edge in histogram.edges[1:-1]]
        return histogram

    def allows(self, side: Side, units: Units) -> bool:
        """Whether counts on both sides of a division of the n units may be released."""
        if not self._sides:
            return True
        differ = np.array(self._sides) ^ side
        numbers = np.concatenate([_patients(differ, units), _patients(~differ, units)])
        return not ((numbers > 0) & (numbers < self.disclosure.minimum_bin)).any()

    def add(self, side: Side) -> None:
        """Add a division whose counts are released."""
        self._sides.append(side)


def _patients(chosen: NDArray[np.bool_], units: Units) -> NDArray[np.int64]:
    """Number of patients in each row of chosen units, (m, n)."""
    if units.patients is not None:
        order = np.argsort(units.patients, kind="stable")
        _, first = np.unique(units.patients[order], return_index=True)
        chosen = np.logical_or.reduceat(chosen[:, order], first, axis=1)
    return np.asarray(chosen.sum(axis=1), dtype=np.int64)
