"""A coordinator who knows a patient's number and chooses the seed cannot place the patient."""

import os
import stat
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from support.hospital import EXPERIMENT, write_site

from fedrad.client.cohort import PatientDraw, Pseudonyms, divide, read_cohort
from fedrad.client.cohort.assignment import Patient, assign_folds, assign_parts
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.exchange.experiment import EvaluationSettings, parse_experiment

ONE_SPLIT = parse_experiment(EXPERIMENT)
SHARES = EvaluationSettings(test=0.3, validation=0.2)
NUMBERS = [f"patient-{number}" for number in range(20)]
"""All known to the coordinator, with their outcomes."""
SEEDS = 400


def drawn(draw: PatientDraw, seed: int, known: str) -> str:
    """Part of the known patient."""
    everyone = [Patient(n, n, "", draw.of(n), None) for n in NUMBERS]
    return assign_parts(everyone, SHARES, seed, {})[known]


def fold_of(draw: PatientDraw, seed: int, known: str) -> int:
    everyone = [Patient(n, n, "", draw.of(n), None) for n in NUMBERS]
    return assign_folds(everyone, 4, seed, {})[known]


@settings(max_examples=20)
@given(st.binary(min_size=32, max_size=32), st.sampled_from(NUMBERS))
def test_over_seeds_the_part_of_a_known_patient_is_by_the_shares_and_unpredictable(key, known):
    """The prediction is the public draw of earlier versions, SHA-256 without a key. Over seeds it
    hits as often as two independent draws agree. Limits: 1e-9 of a binomial, either side."""
    public, keyed = PatientDraw(None), PatientDraw(key)
    parts = [(drawn(keyed, seed, known), drawn(public, seed, known)) for seed in range(SEEDS)]
    folds = [(fold_of(keyed, seed, known), fold_of(public, seed, known)) for seed in range(SEEDS)]
    shares = {"test": 0.3, "validation": 0.2, "train": 0.5}
    for part, share in shares.items():
        assert within(sum(p == part for p, _ in parts), share)
    assert within(
        sum(p == predicted for p, predicted in parts), sum(s * s for s in shares.values())
    )
    assert within(sum(f == predicted for f, predicted in folds), 1 / 4)
    chosen = [p for p, predicted in parts if predicted == "test"]
    assert within(chosen.count("test"), 0.3, len(chosen)), "no seed can be chosen for the patient"


def within(hits: int, share: float, of: int = SEEDS) -> bool:
    low, high = binom.ppf([1e-9, 1 - 1e-9], of, share)
    return bool(low <= hits <= high)


@pytest.fixture
def joined(tmp_path) -> Site:
    folder = write_site(tmp_path / "a", 30, seed=1)
    state = tmp_path / "state"
    state.mkdir()
    (state / "membership.json").write_text("{}")
    return open_site(folder, state=state)


def test_a_joined_site_draws_by_a_key_of_its_own_that_only_its_owner_reads(joined):
    units = read_cohort(joined, ONE_SPLIT).units
    public = {sha256(f"CANARY-1-{number:04d}".encode()).hexdigest() for number in range(30)}
    assert not public & {unit.draw for unit in units}
    assert stat.S_IMODE((joined.state / "split.key").stat().st_mode) == 0o600
    again = read_cohort(joined, ONE_SPLIT).units
    assert [unit.draw for unit in again] == [unit.draw for unit in units]


def test_a_site_whose_membership_is_on_a_disk_that_is_not_mounted_has_joined(joined):
    (joined.state / "membership.json").unlink()
    assert not joined.joined
    (joined.state / "membership.json").symlink_to("/not/mounted")
    assert joined.joined


def test_two_joined_sites_and_a_simulation_divide_the_same_patients_differently(tmp_path):
    parts = []
    for name in ("one", "two", "simulation"):
        site = open_site(write_site(tmp_path / name / "a", 30, seed=1), state=tmp_path / name / "s")
        site.state.mkdir()
        if name != "simulation":
            (site.state / "membership.json").write_text("{}")
        units = read_cohort(site, ONE_SPLIT).units
        division = divide(site, ONE_SPLIT, units, 0)
        parts.append({units[row].name for row in division["test"]})
    assert parts[0] != parts[1] != parts[2] != parts[0]


def test_without_its_membership_a_site_still_draws_by_its_key(joined):
    before = read_cohort(joined, ONE_SPLIT).units
    (joined.state / "membership.json").unlink()
    assert read_cohort(joined, ONE_SPLIT).units == before


def test_a_damaged_or_lost_key_is_refused_and_divides_nobody(joined):
    units = read_cohort(joined, ONE_SPLIT).units
    divide(joined, ONE_SPLIT, units[:20], 0)
    (joined.state / "split.key").write_bytes(b"short")
    with pytest.raises(SiteProblem, match=r"split.key: is damaged; restore it from a backup"):
        read_cohort(joined, ONE_SPLIT)
    (joined.state / "split.key").unlink()
    for record in (True, False):
        with pytest.raises(SiteProblem, match=r"another split.key .* restore split.key"):
            divide(joined, ONE_SPLIT, read_cohort(joined, ONE_SPLIT).units, 0, record=record)


def test_patients_whom_a_simulation_or_an_earlier_version_divided_keep_their_part(joined):
    alone = Site(joined.folder, joined.settings, joined.state.with_name("alone"))
    units = read_cohort(alone, ONE_SPLIT).units
    before = divide(alone, ONE_SPLIT, units[:20], 0)
    for file in ("salt", "splits"):
        (alone.state / file).rename(joined.state / file)
    after = divide(joined, ONE_SPLIT, read_cohort(joined, ONE_SPLIT).units, 0)
    for part, rows in before.items():
        assert set(rows) <= set(after[part])


def test_a_table_that_is_only_looked_at_leaves_no_key(joined):
    from fedrad.client.cohort import read_table

    read_table(joined, ["label"], Pseudonyms.temporary())
    assert not (joined.state / "split.key").exists()


@pytest.mark.parametrize("name", ["salt", "split.key"])
def test_a_secret_whose_disk_is_not_mounted_is_not_replaced_by_another(tmp_path, name):
    site = open_site(write_site(tmp_path / "site", 20), state=tmp_path / "state")
    site.state.mkdir(mode=0o700)
    (site.state / name).symlink_to("/mnt/gone/secret")
    make = Pseudonyms.of_site if name == "salt" else PatientDraw.of_site
    with pytest.raises(SiteProblem, match="a link to /mnt/gone/secret, which is not there"):
        make(site)
    assert (site.state / name).is_symlink()


def test_a_salt_that_is_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "salt")
    with pytest.raises(SiteProblem, match="a pipe or a device"):
        Pseudonyms.load_or_create(tmp_path)
