"""Names of sites: two that the eye takes for one are refused, and those with a meaning."""

import pytest

from fedrad.exchange.names import RESERVED_SITES, fault_of_site


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hospital-a", "Hospital-A"),
        ("hospital-a", "hospital_a"),
        ("hospital.a", "hospital-a"),
        ("site-O", "site-0"),
        ("site-1", "site-l"),
        ("site-I", "site-1"),
        ("Il1", "llI"),
        ("hospital-a", "hospital-a."),
        ("hospital-a", "hospital--a"),
    ],
)
def test_names_that_look_alike_are_of_one_site(one, other):
    assert f"looks like {one!r}" in fault_of_site(other, [one])
    assert fault_of_site(one, [one]) is None


@pytest.mark.parametrize("name", sorted(RESERVED_SITES))
def test_a_name_with_a_meaning_is_no_site(name):
    for spelled in (name, name.upper()):
        assert f"has a meaning of its own ({name})" in fault_of_site(spelled, [])


def test_a_name_that_is_no_file_on_windows_is_no_site():
    assert "a meaning of its own (con)" in fault_of_site("CON.txt", [])


def test_other_names_are_allowed():
    others = ["hospital-a", "north", "site-1"]
    for name in (
        "hospital-b",
        "north-2",
        "site-2",
        "coordinator-hospital",
        "global.2",
        "allerheiligen",
    ):
        assert fault_of_site(name, others) is None
