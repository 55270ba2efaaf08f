"""Groups of patients by a column of the cohort table, such as sex or ranges of age."""

from collections.abc import Sequence
from math import isnan

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.experiment import Groups

from .spreadsheet import number


def group_of(values: Sequence[str], named: Groups) -> NDArray[np.int64]:
    """Group of each value of a column, -1 for one that is in none: an empty cell, no number where
    the groups are ranges, or a value that is not named (upper and lower case are the same)."""
    if isinstance(named[0], str):
        place = {str(name).casefold(): i for i, name in enumerate(named)}
        return np.array([place.get(v.strip().casefold(), -1) for v in values], dtype=np.int64)
    numbers = [number(v) if v.strip() else None for v in values]
    return np.array(
        [
            -1 if v is None or isnan(v) else int(np.searchsorted(named, v, side="right"))
            for v in numbers
        ],
        dtype=np.int64,
    )
