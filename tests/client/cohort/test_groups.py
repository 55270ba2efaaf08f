"""Each patient is in the group that the experiment names, or in none."""

from fedrad.client.cohort.groups import group_of


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
