"""A patient is in one part for ever, in every process and for every use of the division."""

import json
import multiprocessing
import secrets
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hospital import EXPERIMENT, with_

from fedrad.client.cohort import Unit, divide, division
from fedrad.client.cohort.patients import Pseudonyms
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, SiteSettings
from fedrad.exchange.experiment import EvaluationSettings, Experiment, parse_experiment
from fedrad.system.files import JsonFile

ONE_SPLIT = parse_experiment(EXPERIMENT)
FOLDS = parse_experiment(with_(EXPERIMENT, folds="3", repeats="2"))
HELD_OUT = parse_experiment(with_(EXPERIMENT, held_out='["x"]'))
EARLIER = Path(__file__).parent / "divisions"


def site(state: Path) -> Site:
    return Site(state, SiteSettings(name="x"), state)


def unit(key: str, label: float = 0.0, **more) -> Unit:
    return Unit(key, Path(f"{key}.png"), (label,), draw=key, name=f"{key}.png", **more)


def patients(count: int) -> list[Unit]:
    return [unit(f"p{i}", float(i % 3 == 0)) for i in range(count)]


def assigned_parts(state: Path, experiment: Experiment, units: list[Unit], fold: int = 0, **how):
    """Pseudonym -> part. Fails if a row or a patient is in no part, or in two."""
    parts = divide(site(state), experiment, units, fold, **how)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(units)))
    assigned = {}
    for part, rows in parts.items():
        for row in rows:
            assert assigned.setdefault(units[row].key, part) == part
    return assigned


def trainings(experiment: Experiment) -> range:
    return range(experiment.evaluation.folds * experiment.evaluation.repeats or 1)


def recorded(state: Path) -> dict[str, object]:
    """Pseudonym -> part in the only file of divisions."""
    (file,) = (state / "splits").glob("*.json")
    return json.loads(file.read_text())["patients"]


# Properties

labels = st.sampled_from([0.0, 1.0, float("nan")])
images = st.lists(st.lists(labels, min_size=1, max_size=3), min_size=6, max_size=40)
"""Outcomes of the images of each patient."""

experiments = st.builds(
    lambda seed, evaluation: ONE_SPLIT.model_copy(update={"seed": seed, "evaluation": evaluation}),
    st.integers(0, 99),
    st.one_of(
        st.builds(EvaluationSettings, test=st.floats(0.1, 0.5), validation=st.floats(0, 0.3)),
        st.builds(EvaluationSettings, folds=st.integers(2, 6), repeats=st.integers(1, 2)),
        st.just(EvaluationSettings(held_out=("x",))),
    ),
)


def units_of(outcomes: list[list[float]]) -> list[Unit]:
    return [unit(f"p{i}", label) for i, own in enumerate(outcomes) for label in own]


@given(experiments, images)
def test_every_patient_is_in_one_part_with_all_images(experiment, outcomes):
    units = units_of(outcomes)
    with tempfile.TemporaryDirectory() as folder:
        assigned = [
            assigned_parts(Path(folder), experiment, units, fold) for fold in trainings(experiment)
        ]
    folds = experiment.evaluation.folds
    if folds:
        for patient in assigned[0]:
            tested = [fold for fold in trainings(experiment) if assigned[fold][patient] == "test"]
            assert [fold // folds for fold in tested] == list(range(experiment.evaluation.repeats))


@given(experiments, images, images, st.randoms(use_true_random=False))
def test_new_patients_move_no_earlier_patient(experiment, outcomes, more, random):
    with tempfile.TemporaryDirectory() as folder:
        before = [
            assigned_parts(Path(folder), experiment, units_of(outcomes), fold)
            for fold in trainings(experiment)
        ]
        everyone = units_of(outcomes + more)
        random.shuffle(everyone)
        for fold in trainings(experiment):
            after = assigned_parts(Path(folder), experiment, everyone, fold)
            tested = {key for key, part in before[fold].items() if part == "test"}
            assert tested == before[fold].keys() & {
                k for k, part in after.items() if part == "test"
            }
            if not experiment.evaluation.folds:
                assert before[fold].items() <= after.items()


@given(experiments, images, st.randoms(use_true_random=False))
def test_the_order_of_the_table_does_not_matter(experiment, outcomes, random):
    units = units_of(outcomes)
    with tempfile.TemporaryDirectory() as folder:
        for fold in trainings(experiment):
            assigned = assigned_parts(Path(folder), experiment, units, fold, record=False)
            random.shuffle(units)
            assert assigned_parts(Path(folder), experiment, units, fold, record=False) == assigned


@given(experiments, images)
def test_an_inspection_shows_what_a_training_uses_and_writes_nothing(experiment, outcomes):
    units = units_of(outcomes)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        looks = [
            assigned_parts(state, experiment, units, f, record=False) for f in trainings(experiment)
        ]
        assert not (state / "splits").exists()
        assert looks == [assigned_parts(state, experiment, units, f) for f in trainings(experiment)]
        assert looks == [
            assigned_parts(state, experiment, units, f, record=False) for f in trainings(experiment)
        ]


# The file


@pytest.mark.parametrize("experiment", [ONE_SPLIT, FOLDS], ids=["one split", "folds"])
def test_the_file_keeps_every_part_while_labels_patients_and_order_change(tmp_path, experiment):
    assigned_parts(tmp_path, experiment, [unit(f"p{i}", float(i % 2)) for i in range(40)])
    before = recorded(tmp_path)
    changed = [unit(f"p{i}", float(i % 3 == 0)) for i in reversed(range(10, 70))]
    assigned_parts(tmp_path, experiment, changed)
    again = recorded(tmp_path)
    assert before.items() <= again.items()
    assert len(again) == 70
    (file,) = (tmp_path / "splits").glob("*.json")
    assert "p1.png" not in file.read_text()


@pytest.mark.parametrize(
    ("experiment", "name"),
    [(ONE_SPLIT, "fb8567f888df.json"), (FOLDS, "bcc388eb7921.json")],
    ids=["one split", "folds"],
)
def test_a_file_of_an_earlier_version_is_used_and_would_be_drawn_the_same(
    tmp_path, experiment, name
):
    """The files in `divisions/` were written by fedrad before it had `cohort/division.py`, when
    their names had 12 characters."""
    text = (EARLIER / name).read_text()
    earlier = json.loads(text)
    for state in (tmp_path / "drawn", tmp_path / "assigned"):
        state.mkdir()
        (state / "salt").write_bytes(bytes(32))
    assigned_parts(tmp_path / "drawn", experiment, patients(30))
    (file,) = (tmp_path / "drawn" / "splits").glob("*.json")
    assert earlier.items() <= (json.loads(file.read_text()) | {"others": None}).items()
    old = tmp_path / "assigned" / "splits" / name
    old.parent.mkdir()
    swapped = text.replace(': "test"', ': "train"')  # what no draw gives: the file decides
    old.write_text(swapped)
    stored = json.loads(swapped)["patients"]
    assigned_parts(tmp_path / "assigned", experiment, patients(30), record=False)
    assert old.read_text() == swapped
    assigned_parts(tmp_path / "assigned", experiment, patients(30))
    assert recorded(tmp_path / "assigned") == stored, "under the long name; the old file is gone"
    new = old.with_name(file.name)
    written = new.stat().st_mtime_ns
    assigned_parts(tmp_path / "assigned", experiment, patients(30))
    assert new.stat().st_mtime_ns == written, "nothing is new, so nothing is written"
    assigned_parts(tmp_path / "assigned", experiment, patients(35))
    assert stored.items() <= recorded(tmp_path / "assigned").items()
    assert len(recorded(tmp_path / "assigned")) == 35


def test_the_file_of_another_plan_with_the_same_first_characters_is_not_taken_over(tmp_path):
    assigned_parts(tmp_path, ONE_SPLIT, patients(20))
    (file,) = (tmp_path / "splits").glob("*.json")
    content = json.loads(file.read_text())
    content["patients"] = dict.fromkeys(content["patients"], "train")
    content["plan"]["seed"] = 99
    file.unlink()
    old = file.with_name(f"{file.stem[:12]}.json")
    old.write_text(json.dumps(content))
    assert "test" in assigned_parts(tmp_path, ONE_SPLIT, patients(20)).values()
    assert old.exists()


def test_the_validation_patients_of_a_fold_are_those_of_earlier_versions(tmp_path):
    drawn = []
    for fold in range(6):
        parts = assigned_parts(tmp_path, FOLDS, patients(30), fold)
        drawn.append([key for key, part in parts.items() if part == "validation"])
    assert drawn == [
        ["p13", "p17", "p22", "p27"],
        ["p9", "p11", "p14", "p28"],
        ["p5", "p16", "p18", "p26"],
        ["p10", "p11", "p18", "p20"],
        ["p2", "p7", "p10", "p18"],
        ["p2", "p4", "p15", "p29"],
    ]


def test_who_trained_a_folds_model_never_validates_it_though_patients_come_and_go(tmp_path):
    before = assigned_parts(tmp_path, FOLDS, patients(30), 1)
    validates = [key for key, part in before.items() if part == "validation"]
    left = [u for u in patients(40) if u.key not in validates[:2]]
    after = assigned_parts(tmp_path, FOLDS, left, 1)
    assert {key: before[key] for key in before.keys() & after.keys()}.items() <= after.items()
    assert not set(validates[:2]) & after.keys()


def test_a_site_that_is_held_out_tests_on_all_and_has_no_file(tmp_path):
    assigned = assigned_parts(tmp_path, HELD_OUT, patients(30))
    assert list(assigned.values()) == ["test"] * 30
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("experiment", [ONE_SPLIT, FOLDS], ids=["one split", "folds"])
def test_a_damaged_file_or_another_salt_is_refused_never_replaced(tmp_path, experiment, record):
    assigned_parts(tmp_path, experiment, patients(10))
    (file,) = (tmp_path / "splits").glob("*.json")
    text = file.read_text()
    salt = (tmp_path / "salt").read_bytes()
    (tmp_path / "salt").write_bytes(bytes(32))
    with pytest.raises(SiteProblem, match="made with another salt") as problem:
        assigned_parts(tmp_path, experiment, patients(12), record=record)
    assert problem.value.reason == "cohort"
    (tmp_path / "salt").write_bytes(salt)
    for damage in ("{", "[]", text.replace('"patients"', '"people"'), text[: len(text) // 2]):
        file.write_text(damage)
        with pytest.raises(
            SiteProblem, match=r"cannot be read .* delete it to divide all"
        ) as problem:
            assigned_parts(tmp_path, experiment, patients(12), record=record)
        assert problem.value.reason == "cohort"
        assert file.read_text() == damage


def test_a_part_that_the_experiment_does_not_know_is_refused(tmp_path):
    for experiment, wrong in ((ONE_SPLIT, "tset"), (FOLDS, [0]), (FOLDS, [0, 3]), (FOLDS, "test")):
        assigned_parts(tmp_path, experiment, patients(10))
        (file,) = (tmp_path / "splits").glob("*.json")
        content = json.loads(file.read_text())
        content["patients"]["p4"] = wrong
        file.write_text(json.dumps(content))
        with pytest.raises(SiteProblem, match="delete it to divide all patients anew"):
            assigned_parts(tmp_path, experiment, patients(10))
        file.unlink()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "splits").write_text("a file where the folder should be")
    with pytest.raises(SiteProblem, match=r"splits/.*cannot be written") as problem:
        assigned_parts(tmp_path, FOLDS, patients(10))
    assert problem.value.reason == "cohort"


# Several processes

FORK = multiprocessing.get_context("fork")


def at_once(work, count=4):
    """Return values of processes that start at the same time."""
    gate, answers = FORK.Barrier(count), FORK.SimpleQueue()

    def wait_and_work(number):
        gate.wait(60)
        try:
            answers.put(work(number))
        except BaseException as error:
            answers.put(error)

    team = [FORK.Process(target=wait_and_work, args=(number,)) for number in range(count)]
    for process in team:
        process.start()
    results = [answers.get() for _ in team]
    for process in team:
        process.join()
    return results


@pytest.mark.parametrize("experiment", [ONE_SPLIT, FOLDS], ids=["one split", "folds"])
def test_processes_that_divide_at_once_lose_no_patient_and_agree(tmp_path, monkeypatch, experiment):
    read = JsonFile.read

    def slowly(file):
        content = read(file)
        time.sleep(0.1)
        return content

    Pseudonyms.load_or_create(tmp_path)
    monkeypatch.setattr(JsonFile, "read", slowly)

    def divide_some(number):
        units = [unit(f"shared{i}") for i in range(20)]
        units += [unit(f"own{number}-{i}") for i in range(20)]
        return assigned_parts(tmp_path, experiment, units)

    answers = at_once(divide_some)
    stored = recorded(tmp_path)
    assert len(stored) == 100
    for answer in answers:
        for key, part in answer.items():
            tested = stored[key] == "test" if experiment is ONE_SPLIT else stored[key][0] == 0
            assert (part == "test") == tested
            assert experiment is FOLDS or part == stored[key]


def test_processes_that_start_at_once_have_one_salt(tmp_path, monkeypatch):
    token_bytes = secrets.token_bytes
    monkeypatch.setattr(secrets, "token_bytes", lambda n: [token_bytes(n), time.sleep(0.1)][0])
    assert len(set(at_once(lambda _: Pseudonyms.load_or_create(tmp_path / "state").salt))) == 1
    names = sorted(file.name for file in (tmp_path / "state").iterdir())
    assert names == [".salt.lock", "salt"]


def test_a_process_killed_while_it_divides_leaves_no_lock(tmp_path, monkeypatch):
    reached = FORK.Event()

    def stop(*_):
        reached.set()
        time.sleep(600)

    with monkeypatch.context() as stopping:
        stopping.setattr(division, "assign_parts", stop)
        victim = FORK.Process(target=assigned_parts, args=(tmp_path, ONE_SPLIT, patients(10)))
        victim.start()
    assert reached.wait(10)
    victim.kill()
    victim.join()
    assigned_parts(tmp_path, ONE_SPLIT, patients(10))
    assert len(recorded(tmp_path)) == 10


# Parts that the table gives


def test_a_split_column_is_kept_and_may_not_be_changed_later(tmp_path):
    units = [unit(f"p{i}", part="test" if i < 3 else None) for i in range(20)]
    assigned = assigned_parts(tmp_path, ONE_SPLIT, units)
    assert {assigned["p0"], assigned["p1"], assigned["p2"]} == {"test"}
    assert list(assigned.values()).count("test") == 8, "the rest fills what is short"
    moved = [unit(u.key, part="train" if u.key == "p0" else u.part) for u in units]
    with pytest.raises(SiteProblem, match=r"p0.png: its patient is on the test side"):
        assigned_parts(tmp_path, ONE_SPLIT, moved)
    with pytest.raises(SiteProblem, match="two sides of the split column"):
        assigned_parts(tmp_path, ONE_SPLIT, [unit("p", part="test"), unit("p", part="train")])


def test_a_split_column_and_folds_contradict_each_other(tmp_path):
    with pytest.raises(SiteProblem, match="divides its patients itself"):
        assigned_parts(tmp_path, FOLDS, [unit(f"p{i}", part="test") for i in range(10)])
    with pytest.raises(SiteProblem, match="2 patients cannot be divided into 3 folds"):
        assigned_parts(tmp_path, FOLDS, patients(2))
    assert not list((tmp_path / "splits").glob("*.json"))


def test_a_split_by_date_tests_on_all_patients_seen_after_it(tmp_path):
    settings = EvaluationSettings(test_after="2024-01-01", validation=0.25)
    by_date = ONE_SPLIT.model_copy(update={"evaluation": settings})
    units = [unit(f"p{i}", day=date(2023 + i % 2, 6, 1)) for i in range(16)]
    units.append(unit("p0", day=date(2024, 7, 1)))
    assigned = assigned_parts(tmp_path, by_date, units)
    assert {k for k, p in assigned.items() if p == "test"} == {f"p{i}" for i in range(1, 16, 2)} | {
        "p0"
    }
    assert list(assigned.values()).count("validation") == round(0.25 * 7)
    with pytest.raises(SiteProblem, match="has no date"):
        assigned_parts(tmp_path, by_date, [unit("p")])
    with pytest.raises(SiteProblem, match=r"splits by date .* has a split column"):
        assigned_parts(tmp_path, by_date, [unit("p", part="test", day=date(2024, 1, 1))])
