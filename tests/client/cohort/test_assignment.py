"""Strata are spread as the settings ask, and patients who were assigned before do not move."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from fedrad.client.cohort.assignment import Patient, assign_folds, assign_parts
from fedrad.exchange.experiment import EvaluationSettings

people = st.lists(st.sampled_from(["(0.0,)", "(1.0,)", "(nan,)"]), min_size=2, max_size=100)


def cohort(strata: list[str]) -> list[Patient]:
    return [Patient(f"key{i}", f"{i}.png", s, f"draw{i}", None) for i, s in enumerate(strata)]


@given(people, st.floats(0.1, 0.5), st.floats(0, 0.3), st.integers(0, 99))
def test_parts_are_stratified_and_independent_of_the_order(strata, test, validation, seed):
    settings = EvaluationSettings(test=test, validation=validation)
    everyone = cohort(strata)
    parts = assign_parts(everyone, settings, seed, {})
    assert parts == assign_parts(everyone[::-1], settings, seed, {})
    assert parts.keys() == {p.key for p in everyone}
    for stratum in set(strata):
        members = [parts[p.key] for p in everyone if p.stratum == stratum]
        assert abs(members.count("test") - test * len(members)) <= 0.5 + 1e-9
        assert abs(members.count("validation") - validation * len(members)) <= 0.5 + 1e-9


@given(people, people, st.floats(0.1, 0.5), st.floats(0, 0.3), st.integers(0, 9))
def test_new_patients_fill_the_short_parts_and_no_patient_moves(
    first, later, test, validation, seed
):
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
def test_folds_are_as_even_as_scikit_learns_and_new_patients_move_no_other(strata, k, seed):
    everyone = cohort(strata)
    if len(everyone) < k:
        with pytest.raises(ValueError, match="cannot be divided"):
            assign_folds(everyone, k, seed, {})
        return
    folds = assign_folds(everyone, k, seed, {})
    assert folds == assign_folds(everyone[::-1], k, seed, {}), "the order of the table is no matter"
    earlier = dict(list(folds.items())[: len(folds) // 2])
    assert earlier.items() <= assign_folds(everyone, k, seed, earlier).items()
    for stratum in set(strata):
        sizes = np.bincount([folds[p.key] for p in everyone if p.stratum == stratum], minlength=k)
        assert sizes.max() - sizes.min() <= 1
    if min(strata.count(s) for s in set(strata)) >= k:
        theirs = StratifiedKFold(k).split(np.zeros(len(strata)), strata)
        for _, members in theirs:
            for stratum in set(strata):
                expected = strata.count(stratum) / k
                assert abs(sum(strata[m] == stratum for m in members) - expected) < 1
