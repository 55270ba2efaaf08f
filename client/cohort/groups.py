"""Groups of patients by a column of the cohort table, such as sex or ranges of age."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import Groups

from .cells import age, is_age_string


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
        group of that name, or no number where the groups are ranges. There, DICOM age strings such
        as `045Y` and `018M` are numbers of years.

    Raises
    ------
    SiteProblem
        "cohort", for ranges, if some ages are DICOM age strings and others plain numbers, whose
        unit nobody knows.
    """
    if isinstance(groups[0], str):
        index = {str(name).casefold(): i for i, name in enumerate(groups)}
        return np.array([index.get(v.strip().casefold(), -1) for v in values], dtype=np.int64)
    numbers = [age(v) for v in values]
    strings = [is_age_string(v) for v in values]
    plain = [n is not None and not string for n, string in zip(numbers, strings, strict=True)]
    if any(strings) and any(plain):
        raise SiteProblem(
            "cohort",
            f"a column for groups holds ages with a unit ({values[strings.index(True)]!r}) and "
            f"without one ({values[plain.index(True)]!r}): write all in the same way",
        )
    return np.array(
        [-1 if v is None else int(np.searchsorted(groups, v, side="right")) for v in numbers],
        dtype=np.int64,
    )
