"""Noise is exact in its distribution, drawn once for a question, and kept."""

from fractions import Fraction

import numpy as np
import pytest

from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.noise import KeptNoise
from fedrad.exchange.histogram import Histogram
from fedrad.stats.exact import Units

SECRET = bytes(range(32))
LABELS = np.repeat([1, 0], [40, 60]).astype(np.float32)
LOGITS = np.random.default_rng(0).normal(LABELS, 1)


def rule(**changes) -> Disclosure:
    return Disclosure(**({"minimum_units": 10, "minimum_bin": 3, "secret": SECRET} | changes))


def test_laplace_noise_has_the_probabilities_of_its_formula():
    scale = Fraction(2) / Fraction("0.7")
    drawn = np.array([KeptNoise(SECRET, i).laplace(scale) for i in range(20_000)])
    q = np.exp(-0.35)
    for k in (-3, -1, 0, 1, 2, 5):
        assert (drawn == k).mean() == pytest.approx((1 - q) / (1 + q) * q ** abs(k), abs=0.01)


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(2), Fraction(2500)])
def test_normal_noise_has_the_probabilities_of_its_formula(variance):
    drawn = np.array([KeptNoise(SECRET, i).gauss(variance) for i in range(10_000)])
    k = np.arange(-400, 401)
    weights = np.exp(-(k**2) / (2 * float(variance)))
    weights /= weights.sum()
    assert drawn.mean() == pytest.approx(0, abs=4 * np.sqrt(float(variance) / 10_000))
    assert drawn.var() == pytest.approx(float(weights @ k**2), rel=0.06)
    assert (drawn == 0).mean() == pytest.approx(weights[400], abs=0.015)


def noisy(model: str = "m", outcome: str = "y", logits=LOGITS, labels=LABELS, **changes):
    return rule(epsilon=1.0, **changes).noisy_histogram(logits, Units(labels), model, outcome)


def test_the_same_question_about_the_same_patients_gets_the_same_noise():
    assert noisy() == noisy()
    assert noisy() != noisy(secret=SECRET[::-1]), "another site draws other noise"
    assert noisy() != noisy(outcome="z")


def test_a_replaced_patient_is_not_the_difference_of_two_releases():
    """The noise depends on the exact answer, so that it does not cancel."""
    changed = LABELS.copy()
    changed[0] = 0
    before, after = noisy(), noisy(labels=changed)
    moved = np.abs(np.array(before.positives) - after.positives).sum()
    assert moved > 5, "one patient alone would move one count by one"


def test_two_models_that_differ_for_nobody_here_do_not_answer_alike():
    """Equal noise for equal scores would tell whether one person, whom a changed model singles out,
    is among the patients."""
    assert noisy("changed for somebody else") != noisy("m")


def test_one_replaced_patient_changes_two_counts_which_the_noise_covers():
    """The probability of any released histogram changes by a factor of at most exp(ε)."""
    epsilon = 1.0
    counts = np.array([3, 0, 5, 2])
    neighbour = np.array([2, 0, 5, 3])
    q = np.exp(-epsilon / 2)
    for released in ([3, 0, 5, 2], [-4, 0, 5, 9], [9, 1, 1, -3]):
        log_ratio = np.log(q) * (np.abs(released - counts) - np.abs(released - neighbour)).sum()
        assert abs(log_ratio) <= epsilon + 1e-12
    drawn = np.array([noisy(str(model)).positives for model in range(300)])
    assert (drawn - drawn.mean(0)).var() == pytest.approx(2 * q / (1 - q) ** 2, rel=0.1)


def test_without_the_secret_nothing_with_noise_leaves():
    with pytest.raises(ValueError, match="secret"):
        noisy(secret=None)
    with pytest.raises(ValueError, match="secret"):
        rule(secret=None).monitoring(LOGITS, Units(LABELS), "m", "y")
    with pytest.raises(ValueError, match="32 bytes"):
        KeptNoise(b"short", 0)


def test_with_epsilon_no_histogram_without_noise_and_no_count_of_a_class_leaves():
    strict = rule(epsilon=1.0)
    assert isinstance(noisy(), Histogram)
    with pytest.raises(ValueError, match="only histograms with noise"):
        strict.histogram(LOGITS, Units(LABELS), [], lambda edge: True)
    counts = strict.counts(Units(LABELS))
    assert (counts.positives, counts.negatives) == (None, None)
    assert strict.training_loss(0.5) is None
