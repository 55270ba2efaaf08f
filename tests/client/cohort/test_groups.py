"""Each patient is in the group that the experiment names, or in none."""

import pytest

from fedrad.client.cohort.groups import group_of
from fedrad.client.problems import SiteProblem


def test_a_value_is_in_the_group_that_names_it_or_in_none():
    assert group_of(["F", "m ", "", "d"], ("F", "M")).tolist() == [0, 1, -1, -1]
    assert group_of(["0.5", "1", "17,9", "18", "", "old", "nan"], (1.0, 18.0)).tolist() == [
        0,
        1,
        1,
        2,
        -1,
        -1,
        -1,
    ]


def test_ages_as_dicom_writes_them_are_years():
    ages = ["045Y", "018m", "003W", "001D", "45Y", ""]
    assert group_of(ages, (1.0, 18.0)).tolist() == [2, 1, 0, 0, -1, -1]


def test_ages_with_and_without_a_unit_are_not_compared():
    with pytest.raises(SiteProblem, match=r"a unit \('045Y'\) and without one \('34'\)"):
        group_of(["34", "045Y", "x"], (1.0, 18.0))
