"""What each patient has been in is recorded, and a patient over the limit is left out, counted."""

import csv
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from support.hospital import EXPERIMENT, SHORT, TwoHospitals, with_, write_cohort, write_site

from fedrad.client.cohort import Pseudonyms
from fedrad.client.participant.budget_words import budget_sentence
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.patient_uses import PatientUses
from fedrad.client.participant.site_data import SiteData
from fedrad.client.participant.trained_patients import TrainedPatients
from fedrad.client.policy.planned_epsilon import planned_epsilon
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Budget, Policy, Site, open_site
from fedrad.exchange.experiment import Experiment, parse_experiment

WITH_LOCAL = SHORT.replace("local_baseline = false", "local_baseline = true")
"""Four models are released."""


def named(name: str, text: str = WITH_LOCAL) -> Experiment:
    return parse_experiment(text.replace('name = "test"', f'name = "{name}"'))


FIRST, SECOND, THIRD = (named(name) for name in ("first", "second", "third"))
FOLDS = [named("folds", with_(SHORT, folds="3", fold_number=str(k))) for k in range(3)]
OTHER_SEED = named("other-seed", SHORT.replace("seed = 3", "seed = 4"))


def uses_of(state: Path) -> PatientUses:
    fingerprint = Pseudonyms.load_or_create(state).fingerprint
    return PatientUses(state / "uses", TrainedPatients(state / "trained", fingerprint), fingerprint)


def limited(noise: float = 0.0, **budget: float) -> Policy:
    return Policy(epsilon=noise, budget=Budget(**budget))


def admitted(uses: PatientUses, experiment: Experiment, policy: Policy, *, record: bool = True):
    """Who of a to f is left out: a to c would train, d validates, e and f are tested."""
    counted = {"validation": ["d"], "test": ["e", "f"]}
    return uses.admit(experiment, policy, ["a", "b", "c"], counted, record=record)


# The limits


def test_a_patient_who_has_reached_the_limit_of_experiments_is_left_out_of_the_next(tmp_path):
    uses = uses_of(tmp_path)
    policy = limited(experiments=2)
    assert not admitted(uses, FIRST, policy)
    assert not admitted(uses, SECOND, policy)
    assert admitted(uses, THIRD, policy) == {"a", "b", "c"}, "those who are tested do not train"


def test_a_patient_who_is_counted_in_enough_releases_is_counted_in_no_other(tmp_path):
    uses = uses_of(tmp_path)
    policy = limited(releases=1)
    assert not admitted(uses, FIRST, policy)
    assert admitted(uses, SECOND, policy) == {"d", "e", "f"}


def test_epsilon_adds_up_over_experiments_and_no_patient_passes_the_limit(tmp_path):
    uses = uses_of(tmp_path)
    planned = planned_epsilon(FIRST, limited(0.5))["test"]
    assert planned == 4 * 0.5, "at most four models, one outcome"
    policy = limited(0.5, epsilon=2 * planned + 0.9)
    assert not admitted(uses, FIRST, policy)
    uses.count_release(FIRST, "test", ["e", "f"], 1.5)
    assert not admitted(uses, SECOND, policy)
    uses.count_release(SECOND, "test", ["e"], 2.0)
    spent = uses.spent()
    assert {key: spent.epsilon[key] for key in "def"} == {"d": 4.0, "e": 3.5, "f": 3.5}
    assert admitted(uses, THIRD, policy) == {"d", "e", "f"}
    assert admitted(uses, named("fourth"), limited(0.5, epsilon=5.5)) == {"d"}


def test_noise_of_monitoring_is_part_of_the_epsilon_of_validation_patients():
    policy = Policy(epsilon=0.5, monitoring="noisy")
    assert planned_epsilon(FIRST, policy) == {"validation": 2.5, "test": 2.0}


def test_a_budget_of_epsilon_without_noise_is_refused():
    with pytest.raises(ValidationError, match="set epsilon too, or limit"):
        limited(epsilon=8.0)


def test_all_folds_of_a_cross_validation_are_one_experiment(tmp_path):
    uses, policy = uses_of(tmp_path), limited(experiments=2)
    for fold in FOLDS:
        assert not admitted(uses, fold, policy)
        uses.trained.record(fold, ["a", "b"])
    assert max(uses.spent().experiments.values()) == 1
    assert not admitted(uses, FIRST, policy)


def test_who_is_left_out_is_decided_once_and_nobody_drops_out_half_way(tmp_path):
    uses = uses_of(tmp_path)
    assert not admitted(uses, FIRST, limited())
    for number in range(5):
        assert not admitted(uses, named(f"other-{number}"), limited())
    assert not admitted(uses, FIRST, limited(experiments=1, releases=1)), "it has begun"
    strict = limited(experiments=3)
    assert admitted(uses, SECOND, strict) == {"a", "b", "c"}
    assert admitted(uses, SECOND, limited()) == {"a", "b", "c"}, "and stays so"
    counted = {"validation": ["d"], "test": ["e", "f"]}
    grown = uses.admit(SECOND, strict, ["a", "b", "c", "new"], counted, record=True)
    assert grown == {"a", "b", "c"}, "a new patient is looked at when it comes"


def test_an_experiment_that_has_only_begun_counts_already(tmp_path):
    """Two that begin at once do not both take the last place."""
    uses, policy = uses_of(tmp_path), limited(experiments=1)
    assert not admitted(uses, FIRST, policy)
    assert admitted(uses, SECOND, policy) == {"a", "b", "c"}


def test_a_preview_records_nothing(tmp_path):
    uses, policy = uses_of(tmp_path), limited(experiments=1)
    admitted(uses, FIRST, policy)
    assert admitted(uses, SECOND, policy, record=False) == {"a", "b", "c"}
    assert [use.name for use in uses.all()] == ["first"]


def _admit_at_once(state: Path, number: int) -> None:
    uses = uses_of(state)
    uses.admit(named(f"x{number}"), limited(experiments=3), ["a"], {}, record=True)
    uses.count_release(FIRST, "test", [f"p{number}"], 1.0)


def test_processes_that_admit_at_once_pass_no_limit_and_lose_no_release(tmp_path):
    uses_of(tmp_path)
    fork = multiprocessing.get_context("fork")
    team = [fork.Process(target=_admit_at_once, args=(tmp_path, n)) for n in range(8)]
    for process in team:
        process.start()
    for process in team:
        process.join()
    assert [process.exitcode for process in team] == [0] * 8
    uses = uses_of(tmp_path)
    assert uses.spent().experiments["a"] == 3
    assert sum("a" in use.left_out for use in uses.all()) == 5
    (first,) = (use for use in uses.all() if use.name == "first")
    assert first.counted["test"] == {f"p{n}" for n in range(8)}


# Records of earlier versions


def test_those_who_trained_under_an_earlier_version_are_not_forgotten(tmp_path):
    uses = uses_of(tmp_path)
    (tmp_path / "trained").mkdir()
    old = {"format": 1, "pseudonyms": uses.pseudonyms, "keys": ["a", "b"]}
    for identity in ("0" * 64, "1" * 64):
        (tmp_path / "trained" / f"{identity}.json").write_text(json.dumps(old))
    assert admitted(uses, FIRST, limited(experiments=2)) == {"a", "b"}
    assert uses.trained.keys("0" * 64) == {"a", "b"}


def test_those_who_were_counted_by_an_earlier_version_are_not_forgotten(tmp_path):
    uses = uses_of(tmp_path)
    folder = tmp_path / "experiments" / "old-0123456789ab"
    (folder / "released").mkdir(parents=True)
    (folder / "scores" / "test").mkdir(parents=True)
    np.savez(folder / "scores" / "test" / "global.npz", logits=np.zeros((2, 1)), keys=["e", "d"])
    release = {"kind": "release", "part": "test", "scores": [], "epsilon": 3.0}
    (folder / "released" / "test.json").write_text("digest\n" + json.dumps(release) + "\n")
    assert uses.spent().epsilon == {"e": 3.0, "d": 3.0}
    assert admitted(uses, FIRST, limited(releases=1)) == {"d", "e"}
    (folder / "scores" / "test" / "global.npz").write_bytes(b"damaged")
    with pytest.raises(SiteProblem, match=r"released/test.json: cannot be read"):
        uses.spent()


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 7}'])
def test_a_damaged_record_admits_nobody(tmp_path, damage):
    uses = uses_of(tmp_path)
    admitted(uses, FIRST, limited())
    (tmp_path / "uses" / f"{FIRST.family}.json").write_text(damage)
    for experiment in (FIRST, SECOND):
        with pytest.raises(SiteProblem, match="restore it from a backup") as problem:
            admitted(uses, experiment, limited())
        assert problem.value.reason == "cohort"


def test_a_record_of_other_pseudonyms_admits_nobody(tmp_path):
    admitted(uses_of(tmp_path), FIRST, limited())
    (tmp_path / "salt").write_bytes(bytes(32))
    with pytest.raises(SiteProblem, match="other pseudonyms"):
        admitted(uses_of(tmp_path), SECOND, limited())


# At a site


def budgeted(folder: Path, budget: str) -> Site:
    settings = folder / "site.toml"
    settings.write_text(settings.read_text() + budget + "\n")
    return open_site(folder, state=folder.parent / "state")


def test_a_site_leaves_them_out_of_every_part_and_tells_their_number(tmp_path):
    site = budgeted(write_site(tmp_path / "a", 30, seed=1), "budget = { experiments = 1 }")
    first = SiteData(site, FIRST)
    assert Participant(first).ready().left_out == 0
    data = SiteData(site, OTHER_SEED)
    ready = Participant(data).ready()
    trained = set(first.keys("train"))
    again = trained.intersection(unit.key for unit in data.cohort.units)
    assert ready.left_out == len(data.left_out) >= 5
    assert data.left_out <= again
    assert not trained.intersection(data.keys("train"))
    assert trained.intersection(data.keys("test")), "they may still be tested"
    parts = [*data.keys("train"), *data.keys("validation"), *data.keys("test")]
    assert len(parts) + len(data.left_out) == 30
    assert (
        f"{ready.left_out} patients have reached a limit" in (site.state / "site.log").read_text()
    )


def test_their_number_is_withheld_where_numbers_of_patients_are(tmp_path):
    site = budgeted(write_site(tmp_path / "a", 30, seed=1), "epsilon = 1.0")
    assert Participant(SiteData(site, FIRST)).ready().left_out is None


def test_a_cross_validation_counts_everyone_in_all_folds_once(tmp_path):
    site = budgeted(write_site(tmp_path / "a", 30, seed=1), "budget = { experiments = 1 }")
    for fold in FOLDS:
        assert not SiteData(site, fold).left_out
    data = SiteData(site, OTHER_SEED)
    assert not data.keys("train")
    assert data.keys("test")


def test_a_federation_goes_on_with_those_who_are_left_and_records_whom_it_counts(tmp_path):
    hospitals = TwoHospitals(tmp_path)
    budgeted(hospitals.sites["a"], "budget = { releases = 1 }")
    first = hospitals.run(1)
    state = hospitals.state / "a"
    site = open_site(hospitals.sites["a"], state=state)
    experiment = parse_experiment((first / "experiment.toml").read_text())
    (use,) = uses_of(state).all()
    data = SiteData(site, experiment)
    assert use.name == "test-1"
    assert use.trains == set(data.keys("train"))
    assert use.counted == {p: set(data.keys(p)) for p in ("validation", "test")}
    assert set(use.released) == {"validation", "test"}
    second = hospitals.run(2)
    cells = json.loads((second / "summary.json").read_text())["cells"]
    missing = {cell["site"]: cell["missing"] for cell in cells if cell["model"] == "global"}
    assert missing["a"] is not None, "all its test patients were counted once"
    assert missing["b"] is None


# In words


def test_the_officer_reads_what_the_patients_have_been_in(tmp_path):
    folder = write_site(tmp_path / "a", 12, seed=1)
    site = budgeted(folder, "epsilon = 0.4\nbudget = { experiments = 3, epsilon = 8.0 }")
    assert budget_sentence(site, FIRST) == [
        "no patient here has trained or been counted in another experiment yet"
    ]
    uses, policy = uses_of(site.state), site.settings.policy
    for experiment in (FIRST, SECOND, named("fourth")):
        admitted(uses, experiment, policy)
        uses.count_release(experiment, "test", ["e", "f"], 1.2)
    words = budget_sentence(site, THIRD)
    assert words[0].startswith("in other experiments, one patient has trained in at most 3 of 3")
    assert "at most 4.8 of 8; this one adds at most 1.6" in words[1]
    assert "up to 3 of 6 patients of other experiments would be left out" in words[2]
    assert "3 of experiments" in words[2]


def test_a_table_with_new_patients_only_leaves_nobody_out(tmp_path):
    site = budgeted(write_site(tmp_path / "a", 30, seed=1), "budget = { experiments = 1 }")
    _ = SiteData(site, parse_experiment(EXPERIMENT)).rows
    rows = list(csv.DictReader(site.cohort.open()))
    write_cohort(site.folder, [{**row, "patient_id": f"new-{i}"} for i, row in enumerate(rows)])
    assert not SiteData(site, OTHER_SEED).left_out
