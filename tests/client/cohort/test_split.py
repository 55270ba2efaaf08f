"""A patient has one side, for ever; every stratum is spread as the plan says."""

import multiprocessing
import secrets
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold
from support.hospital import EXPERIMENT

from fedrad.client.cohort import Patient, SplitFile, Unit, assign_folds, assign_parts, split
from fedrad.client.cohort.patients import Pseudonyms
from fedrad.client.problems import SiteProblem
from fedrad.exchange.experiment import EvaluationSettings, parse_experiment

EXPERIMENT_ = parse_experiment(EXPERIMENT)

people = st.lists(st.sampled_from(["(0.0,)", "(1.0,)", "(nan,)"]), min_size=2, max_size=100)


def cohort(strata: list[str]) -> list[Patient]:
    return [Patient(f"key{i}", s, f"draw{i}", None) for i, s in enumerate(strata)]


def unit(key: str, label: float = 0.0, **more) -> Unit:
    return Unit(key, Path(f"{key}.png"), (label,), draw=key, name=f"{key}.png", **more)


@given(people, people, st.floats(0.1, 0.5), st.floats(0, 0.3), st.integers(0, 9))
def test_new_patients_fill_what_is_short_and_nobody_moves(first, later, test, validation, seed):
    settings = EvaluationSettings(test=test, validation=validation)
    everyone = cohort(first + later)
    before = assign_parts(everyone[: len(first)], settings, seed, {})
    after = assign_parts(everyone, settings, seed, before)
    assert before.items() <= after.items()
    for stratum in {p.stratum for p in everyone}:
        members = [p for p in everyone if p.stratum == stratum]
        short = round(len(members) * test) - sum(after[p.key] == "test" for p in members)
        assert short <= 0 or all(p.key in before or after[p.key] == "test" for p in members)


@given(people, st.integers(2, 6), st.integers(0, 9))
def test_folds_are_as_even_as_scikit_learns_and_grow_without_moving_anyone(strata, k, seed):
    everyone = cohort(strata)
    if len(everyone) < k:
        with pytest.raises(ValueError, match="cannot be divided"):
            assign_folds(everyone, k, seed, {})
        return
    folds = assign_folds(everyone, k, seed, {})
    assert folds == assign_folds(everyone[::-1], k, seed, {}), "the order of the table is no matter"
    half = assign_folds(everyone, k, seed, dict(list(folds.items())[: len(folds) // 2]))
    for given_ in (folds, half):
        for stratum in set(strata):
            sizes = np.bincount(
                [given_[p.key] for p in everyone if p.stratum == stratum], minlength=k
            )
            if given_ is folds:
                assert sizes.max() - sizes.min() <= 1
    if min(strata.count(s) for s in set(strata)) >= k:
        theirs = StratifiedKFold(k).split(np.zeros(len(strata)), strata)
        for _, members in theirs:
            for stratum in set(strata):
                expected = strata.count(stratum) / k
                assert abs(sum(strata[m] == stratum for m in members) - expected) < 1


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 1.0])), min_size=5, max_size=60))
def test_all_images_of_a_patient_are_on_one_side(images):
    units = [unit(f"p{who}", label) for who, label in images]
    parts = split(units, EvaluationSettings(test=0.4, validation=0.2), 1)
    sides = {}
    for part, rows in parts.items():
        for row in rows:
            assert sides.setdefault(units[row].key, part) == part


def test_the_file_keeps_every_side_while_labels_patients_and_order_change(tmp_path):
    units = [unit(f"p{i}", float(i % 2)) for i in range(40)]
    file = SplitFile(tmp_path, EXPERIMENT_, "salt")
    before = {units[r].key: part for part, rows in file.divide(units).items() for r in rows}
    changed = [unit(f"p{i}", float(i % 3 == 0)) for i in reversed(range(10, 70))]
    file.divide(changed)
    again = SplitFile(tmp_path, EXPERIMENT_, "salt").read()
    assert before.items() <= again.items()
    assert len(again) == 70
    assert "p1.png" not in file.path.read_text()


FORK = multiprocessing.get_context("fork")


def at_once(work, count=4):
    """Answers of processes that start together."""
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
    found = [answers.get() for _ in team]
    for process in team:
        process.join()
    return found


def test_processes_that_divide_at_once_lose_no_patient_and_agree(tmp_path, monkeypatch):
    read = SplitFile.read

    def slowly(file):
        kept = read(file)
        time.sleep(0.1)
        return kept

    monkeypatch.setattr(SplitFile, "read", slowly)

    def divide(number):
        units = [unit(f"shared{i}") for i in range(20)]
        units += [unit(f"own{number}-{i}") for i in range(20)]
        parts = SplitFile(tmp_path, EXPERIMENT_, "salt").divide(units)
        return {units[row].key: part for part, rows in parts.items() for row in rows}

    told = at_once(divide)
    kept = read(SplitFile(tmp_path, EXPERIMENT_, "salt"))
    assert len(kept) == 100
    assert all(sides.items() <= kept.items() for sides in told)


def test_processes_that_start_at_once_have_one_salt(tmp_path, monkeypatch):
    token_bytes = secrets.token_bytes
    monkeypatch.setattr(secrets, "token_bytes", lambda n: [token_bytes(n), time.sleep(0.1)][0])
    assert len(set(at_once(lambda _: Pseudonyms.kept(tmp_path / "state").salt))) == 1
    names = sorted(file.name for file in (tmp_path / "state").iterdir())
    assert names == [".salt.lock", "salt"]


def test_a_process_killed_while_it_divides_leaves_no_lock(tmp_path, monkeypatch):
    reached = FORK.Event()

    def stop(*_):
        reached.set()
        time.sleep(600)

    units = [unit(f"p{i}") for i in range(10)]
    file = SplitFile(tmp_path, EXPERIMENT_, "salt")
    with monkeypatch.context() as stopping:
        stopping.setattr(SplitFile, "_write", stop)
        victim = FORK.Process(target=file.divide, args=(units,))
        victim.start()
    assert reached.wait(10)
    victim.kill()
    victim.join()
    file.divide(units)
    assert len(file.read()) == 10


def test_a_damaged_file_or_another_salt_is_refused_never_replaced(tmp_path):
    units = [unit(f"p{i}") for i in range(10)]
    file = SplitFile(tmp_path, EXPERIMENT_, "salt")
    file.divide(units)
    with pytest.raises(SiteProblem, match="made with another salt"):
        SplitFile(tmp_path, EXPERIMENT_, "other").divide(units)
    file.path.write_text("{")
    with pytest.raises(SiteProblem, match="is damaged"):
        file.divide(units)


def test_a_split_column_is_kept_and_may_not_be_changed_later(tmp_path):
    units = [unit(f"p{i}", part="test" if i < 3 else None) for i in range(20)]
    file = SplitFile(tmp_path, EXPERIMENT_, "salt")
    parts = file.divide(units)
    assert {0, 1, 2} <= set(parts["test"].tolist())
    assert len(parts["test"]) == 8, "the rest fills what is short"
    moved = [unit(u.key, part="train" if u.key == "p0" else u.part) for u in units]
    with pytest.raises(SiteProblem, match=r"p0.png: its patient is on the test side"):
        file.divide(moved)
    with pytest.raises(SiteProblem, match="two sides of the split column"):
        split([unit("p", part="test"), unit("p", part="train")], EXPERIMENT_.evaluation, 0)


def test_a_split_by_date_tests_on_all_patients_seen_after_it():
    from datetime import date

    settings = EvaluationSettings(test_after="2024-01-01", validation=0.25)
    units = [unit(f"p{i}", day=date(2023 + i % 2, 6, 1)) for i in range(16)]
    units.append(unit("p0", day=date(2024, 7, 1)))
    parts = split(units, settings, 0)
    assert {units[r].key for r in parts["test"]} == {f"p{i}" for i in range(16) if i % 2} | {"p0"}
    assert len(parts["validation"]) == round(0.25 * 7)
    with pytest.raises(SiteProblem, match="has no date"):
        split([unit("p")], settings, 0)
    with pytest.raises(SiteProblem, match=r"splits by date .* has a split column"):
        split([unit("p", part="test", day=date(2024, 1, 1))], settings, 0)
