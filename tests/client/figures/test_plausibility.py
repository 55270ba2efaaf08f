"""Scores that were made to find out about single patients are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrad.client.figures.plausibility import why_implausible

MINIMUM = 10


def others(n: int = 99, spread: float = 1e-3) -> np.ndarray:
    return np.random.default_rng(0).normal(0, spread, n)


HALVES = np.repeat([0.0, 1.0], 50)


@pytest.mark.parametrize(
    ("logits", "why"),
    [
        (np.zeros(50), "1 different score"),
        (np.append(np.zeros(99), 1.0), "2 different scores"),
        (np.append(np.zeros(91), np.arange(1.0, 10.0)), "all but 8 of 100"),
        (np.append(HALVES, 5.0), "all but 1 of 101"),
        (np.append(HALVES, np.arange(2.0, 11.0)), "all but 9 of 109"),
        (np.append(others(), np.inf), "not finite"),
    ],
)
def test_a_model_that_tells_few_patients_from_all_others_is_no_trained_model(logits, why):
    reason = why_implausible(logits, MINIMUM)
    assert reason is not None
    assert why in reason


def test_as_many_patients_apart_as_the_rule_asks_are_a_class_and_not_a_question():
    assert why_implausible(np.append(HALVES, np.arange(5.0, 15.0)), MINIMUM) is None


@pytest.mark.parametrize("crowd", [np.zeros(60), HALVES, others()])
def test_a_refusal_does_not_tell_whether_one_person_is_here(crowd):
    """The sender's model gives one person, whose image it has, another score than everybody."""
    here, absent = (why_implausible(scores, MINIMUM) for scores in (np.append(crowd, 9.0), crowd))
    assert (here is None) == (absent is None)


@given(st.integers(6, 300), st.integers(0, 2**31), st.sampled_from([0.01, 1.0, 30.0]))
@settings(max_examples=200, deadline=None)
def test_scores_of_trained_models_are_plausible(n, seed, spread):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.3
    assert why_implausible(spread * rng.normal(1.5 * labels, 1, n), 3) is None


def test_several_images_of_one_patient_count_as_one():
    patients = np.append(np.arange(30), np.full(12, 30))
    logits = np.append(np.zeros(30), np.linspace(4, 5, 12))
    assert "31 patients have 2 different" in (why_implausible(logits, MINIMUM, patients) or "")
    assert why_implausible(logits, MINIMUM) is None


def test_too_few_patients_are_not_judged():
    assert why_implausible(np.zeros(2), MINIMUM) is None
    assert why_implausible(np.array([0.0, 0.001, 50.0]), MINIMUM) is None
