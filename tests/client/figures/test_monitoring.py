"""What leaves in each round about the validation patients tells nobody's outcome."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.monitoring import MonitoringRule, step_of_error
from fedrad.client.settings import Policy
from fedrad.exchange.experiment import Experiment
from fedrad.stats.exact import Units

SECRET = bytes(range(32))


def site(n: int, seed: int = 0, prevalence: float = 0.3):
    rng = np.random.default_rng(seed)
    labels = np.zeros(n, np.float32)
    labels[rng.permutation(n)[: round(prevalence * n)]] = 1
    return rng, labels


def rule(monitored="rounded", epsilon=0.0, **changes) -> Disclosure:
    return Disclosure(10, 3, epsilon, secret=SECRET, monitored=monitored, **changes)


def asked(disclosure: Disclosure, logits, labels, model="m") -> float:
    value = disclosure.monitoring(np.asarray(logits, float), Units(labels), model, "y").auroc
    assert value is not None
    return value


# The size of noise and step


@pytest.mark.parametrize(
    ("error", "step"),
    [(0.001, 0.01), (0.011, 0.01), (0.028, 0.02), (0.049, 0.05), (0.08, 0.1), (0.16, 0.2)],
)
def test_the_step_is_near_the_standard_error_and_never_below_a_hundredth(error, step):
    assert step_of_error(error) == pytest.approx(step)


def test_noise_of_one_standard_error_is_unbiased_and_rounded_to_the_step():
    rng, labels = site(167)
    logits = rng.normal(labels, 1)
    exact = roc_auc_score(labels, logits)
    values = np.array([asked(rule(), logits, labels, str(model)) for model in range(600)])
    p, n = labels.sum(), (1 - labels).sum()
    error = np.sqrt((p + n + 1) / (12 * p * n))
    assert values.mean() == pytest.approx(exact, abs=4 * error / np.sqrt(600))
    assert values.std() == pytest.approx(np.sqrt(error**2 + 0.05**2 / 12), rel=0.1)
    np.testing.assert_allclose(values / 0.05, np.round(values / 0.05), atol=1e-9)


def test_step_and_noise_depend_on_the_numbers_of_patients_and_not_on_scores():
    """The last digit of a figure must not tell whether a model is good."""
    _, labels = site(100)
    for logits in (labels, -labels, np.arange(100.0)):
        values = {asked(rule(), logits, labels, str(model)) for model in range(50)}
        assert all(abs(v * 20 - round(v * 20)) < 1e-9 for v in values)


def test_more_rounds_have_more_noise_so_that_they_give_away_no_more():
    _, labels = site(167)
    logits = np.arange(167.0)
    spread = [
        np.std([asked(rule(questions=q), logits, labels, str(m)) for m in range(300)])
        for q in (3, 30, 480)
    ]
    assert spread[1] == pytest.approx(spread[0], rel=0.2)
    assert spread[2] == pytest.approx(4 * spread[1], rel=0.3)


def test_the_trainings_of_a_cross_validation_in_which_a_patient_validates_count_as_rounds():
    """20 folds, repeated 20 times: everyone validates in some 57 trainings of 30 rounds each."""

    def questions(**evaluation) -> int:
        settings = {"name": "t", "outcomes": ["y"], "evaluation": evaluation}
        return Disclosure.of(Policy(), Experiment.model_validate(settings), SECRET).questions

    assert questions() == questions(folds=5) == 31
    assert questions(folds=5, repeats=5) == 3 * 31
    assert questions(folds=20, repeats=20) == 57 * 31


# Attacks


def bisect(answer, order: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring orders, on a path of single exchanges, whose answers differ."""
    path, now = [order.copy()], order.copy()
    for place in range(len(now)):  # a selection sort, by neighbouring exchanges
        at = int(np.flatnonzero(now == other[place])[0])
        for k in range(at, place, -1):
            now[[k - 1, k]] = now[[k, k - 1]]
            path.append(now.copy())
    low, high = 0, len(path) - 1
    first = answer(path[low])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if answer(path[middle]) == first else (low, middle)
    return path[low], path[high]


def test_rounding_alone_would_name_two_patients_by_bisection():
    """Why there is noise: of two orders with different rounded AUROCs one finds, among all orders
    between them, the exchange of two patients at which it changes. Their outcomes differ."""
    rng, labels = site(50)

    def rounded(order):
        return round(roc_auc_score(labels[order], np.arange(50)) / 0.1)

    one, other = bisect(rounded, rng.permutation(50), rng.permutation(50))
    first, second = one[one != other]
    assert labels[first] != labels[second]


def test_bisection_against_the_noise_names_nobody():
    hits = []
    for seed in range(60):
        rng, labels = site(50, seed)
        disclosure = Disclosure(10, 3, secret=SECRET)
        count = iter(range(10_000))

        def answer(order, labels=labels, disclosure=disclosure, count=count):
            logits = np.empty(50)
            logits[order] = np.arange(50)
            return asked(disclosure, logits, labels, f"{next(count)}")

        one, other = bisect(answer, rng.permutation(50), rng.permutation(50))
        first, second = one[one != other]
        hits.append(labels[first] != labels[second])
    chance = 2 * 0.3 * 0.7
    assert np.mean(hits) == pytest.approx(chance, abs=0.2)


def test_the_label_of_one_patient_is_not_known_from_three_rounds_with_any_model():
    """The attack that named all 167 validation patients of a site had one experiment of three
    rounds, and asked about each as often as it liked."""
    right = []
    for seed in range(200):
        _, labels = site(167, seed)
        target, rest = 0, np.arange(1.0, 167.0)
        values = [
            asked(rule(), np.append(place, rest), labels, f"{seed} {place}")
            for place in (0.0, 200.0, 0.5)
        ]
        guess = values[1] > (values[0] + values[2]) / 2
        right.append(guess == labels[target])
    assert np.mean(right) < 0.75, "who says no to all is right in 0.7"


def test_the_loss_with_all_others_at_a_logit_of_0_does_not_leave():
    """It named one patient in each question: everybody else's loss is log 2."""
    _, labels = site(100)
    logits = np.append(20.0, np.random.default_rng(0).normal(0, 1e-3, 99))
    assert rule().monitoring(logits, Units(labels), "m", "y").loss is None


def test_the_same_model_asked_again_gets_the_same_answer():
    _, labels = site(100)
    answers = {asked(rule(), np.arange(100.0), labels) for _ in range(5)}
    assert len(answers) == 1


# Noise that is accounted


@given(st.integers(2, 12), st.integers(2, 6), st.integers(0, 2**31))
@settings(max_examples=300, deadline=None)
def test_a_replaced_patient_changes_the_figure_by_no_more_than_the_noise_assumes(n, m, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(np.float32)
    logits = rng.integers(-3, 4, n).astype(float)
    drawn: list[float] = []

    class Exact(MonitoringRule):
        def _noisy(self, exact, sensitivity, model, outcome):
            drawn.append(exact)
            assert sensitivity == 2 / m
            return exact

    monitoring = Exact("noisy", m, SECRET, 30, 30, 1.0)
    monitoring.auroc(logits, Units(labels), "m", "y")
    replaced, other = labels.copy(), logits.copy()
    replaced[0], other[0] = rng.integers(0, 2), rng.choice([-9.0, 9.0, 0.5])
    monitoring.auroc(other, Units(replaced), "m", "y")
    monitoring.auroc(logits[1:], Units(labels[1:]), "m", "y")
    assert abs(drawn[0] - drawn[1]) <= 2 / m + 1e-12
    assert abs(drawn[0] - drawn[2]) <= 1 / m + 1e-12, "the outcome of one may become unknown"


def test_all_figures_of_an_experiment_together_cost_epsilon():
    experiment = Experiment.model_validate(
        {
            "name": "x",
            "outcomes": ["y", "z"],
            "federation": {"rounds": 20},
            "evaluation": {"folds": 5, "repeats": 2, "ensemble": [0.5]},
        }
    )
    policy = Policy(monitoring="noisy", epsilon=2.0)
    disclosure = Disclosure.of(policy, experiment, SECRET)
    assert disclosure.figures == (20 + 2) * 2 * 10
    _, labels = site(500)
    sent = disclosure.monitoring(np.arange(500.0), Units(labels), "m", "y")
    assert sent.epsilon == disclosure.epsilon_of_monitoring == 2.0
    assert sent.loss is None


def test_noise_of_a_large_epsilon_leaves_the_auroc():
    rng, labels = site(500)
    logits = rng.normal(labels, 1)
    wide = rule("noisy", 100.0, figures=1)
    assert asked(wide, logits, labels) == pytest.approx(roc_auc_score(labels, logits), abs=0.03)


def test_nothing_leaves_without_noise_where_the_policy_says_so():
    _, labels = site(100)
    for strict in (rule("none"), rule("rounded", 1.0)):
        sent = strict.monitoring(np.arange(100.0), Units(labels), "m", "y")
        assert sent.model_dump(exclude_defaults=True) == {"missing": "declined"}
        sent = strict.denoising(np.ones(100), Units(labels), "m", "y")
        assert sent.model_dump(exclude_defaults=True) == {"missing": "declined"}
    several = Units(labels, np.arange(100) // 2)
    sent = rule("noisy", 1.0).monitoring(np.arange(100.0), several, "m", "y")
    assert sent.missing == "declined", "two units, twice the cost"


def test_the_numbers_of_a_class_are_not_disclosed_by_whether_there_is_an_accounted_figure():
    for positives in (0, 3, 50):
        labels = np.repeat([1, 0], [positives, 100 - positives]).astype(np.float32)
        sent = rule("noisy", 1.0).monitoring(np.arange(100.0), Units(labels), "m", "y")
        assert sent.missing is None


def test_one_patients_denoising_error_counts_at_most_the_cap():
    labels = np.zeros(400, np.float32)
    errors = np.full(400, 0.3)
    exact = [
        rule().denoising(np.append(errors[1:], last), Units(labels), str(m), "y").loss
        for last in (0.3, 1e12, np.inf)
        for m in range(100)
    ]
    means = np.array(exact, float).reshape(3, 100).mean(1)
    assert all(abs(a - b) < 0.02 for a, b in pairwise(means))
    assert means == pytest.approx(0.3, abs=0.02)


def test_accounted_noise_needs_a_size():
    with pytest.raises(ValueError, match="epsilon > 0"):
        Policy(monitoring="noisy")
