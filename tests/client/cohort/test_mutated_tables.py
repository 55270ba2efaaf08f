"""A table that was damaged on its way is read as it was meant, or what differs is named."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mutated_tables import MUTATIONS, hospital, mutated_table, verdict

HARMLESS = ("blank line", "separator named", "invisible character", "row repeated")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return hospital(tmp_path_factory.mktemp("tables") / "x")


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32))
def test_no_patient_is_lost_merged_or_split_in_silence(site, seed):
    verdict(site, *mutated_table(Random(seed))[:2])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["", *HARMLESS]))
def test_what_changes_no_meaning_is_read(site, seed, mutation):
    """In every encoding, separator, line end and way of quoting."""
    meant, content, names = mutated_table(Random(seed), [mutation] if mutation else [])
    if mutation == "invisible character" and "?" in content.decode("latin-1").replace("\0", ""):
        return  # the encoding has no such character, and the program wrote another
    assert verdict(site, meant, content) == "read", names


@pytest.mark.slow
def test_a_hundred_thousand_damaged_tables(site):
    counts = Counter[tuple[str, str]]()
    for seed in range(100_000):
        meant, content, names = mutated_table(Random(seed))
        found = verdict(site, meant, content)
        counts.update((name, found) for name in ["all", *names])
    for name in ("all", *MUTATIONS):
        print(f"{name}:", *(f"{how} {counts[name, how]}" for how in ("read", "named", "refused")))
    assert counts["all", "read"] > 20_000
