"""Groups of patients by a column of the cohort table, such as sex or ranges of age."""

from collections.abc import Sequence
from math import isnan

import numpy as np
from numpy.typing import NDArray

from fedrad.exchange.experiment import Groups

from .spreadsheet import number


def group_of(values: Sequence[str], groups: Groups) -> NDArray[np.int64]:
    """Group of each value of a column.

    Parameters
    ----------
    values
        The n cells of the column.
    groups
        Names of the values that make a group each (upper and lower case are the same), or the
        limits between ranges of numbers.

    Returns
    -------
    NDArray[np.int64]
        (n,) index of the group; -1 for a value in no group: an empty cell, a value without a
        group of that name, or no number where the groups are ranges.
    """
    if isinstance(groups[0], str):
        index = {str(name).casefold(): i for i, name in enumerate(groups)}
        return np.array([index.get(v.strip().casefold(), -1) for v in values], dtype=np.int64)
    numbers = [number(v) if v.strip() else None for v in values]
    return np.array(
        [
            -1 if v is None or isnan(v) else int(np.searchsorted(groups, v, side="right"))
            for v in numbers
        ],
        dtype=np.int64,
    )
