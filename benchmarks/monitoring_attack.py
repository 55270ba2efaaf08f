"""What 30 rounds of monitoring give away about the outcomes of validation patients.

The attacker is the coordinator, at its strongest: it holds the images of the validation patients,
can make the model of each round score them in any order it likes, and knows how many have the
outcome. It does not know who. In each round it gets what the site's policy lets leave.

- One patient: the patient is scored highest in half of the rounds and lowest in the others, while
  the others keep their order. With the outcome, the AUROC rises by 1/P when the patient goes to the
  top; without, it falls by 1/N.
- Twenty-nine patients at once: each goes to the top and to the bottom in an order of its own
  (columns of a Hadamard matrix), so that each costs the others little.
- Membership: the same as with one patient, who is among the validation patients or not.

From the answers the attacker computes how likely each patient's outcome is. A patient is *named* if
it is more than 95 % certain; "named wrongly" counts the mistakes among these.

    python benchmarks/monitoring_attack.py            # about three minutes on one core
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.monitoring import ROUNDS, HowMonitored, step_of_error
from fedrad.stats.exact import Units

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PREVALENCE, CERTAIN = 0.3, 0.95
SIZES = (50, 167, 500)
MANY = 29
BITS = 40
"""Labels that one exact loss tells: patient k has the logit 2^k."""


@dataclass
class Site:
    """Validation patients of a site; `answers` counts the questions that it has answered."""

    labels: NDArray[np.float32]
    policy: Disclosure
    answers: int = 0
    seed: int = 0

    @property
    def positives(self) -> int:
        return int(self.labels.sum())

    @property
    def negatives(self) -> int:
        return len(self.labels) - self.positives

    def auroc(self, order: Integers) -> float | None:
        """What leaves about a model that scores the patients in this order, lowest first."""
        logits = np.empty(len(order))
        logits[order] = np.arange(len(order))
        self.answers += 1
        model = f"{self.seed}/{self.answers}"
        return self.policy.monitoring(logits, Units(self.labels), model, "y").auroc


@dataclass
class Result:
    """Of one attack: whether each label was guessed right, and whether it was named."""

    right: list[bool] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)

    def add(self, log_odds: Floats, truth: NDArray[np.bool_]) -> None:
        probability = expit(log_odds)
        self.right += ((probability > 0.5) == truth).tolist()
        self.named += (np.maximum(probability, 1 - probability) > CERTAIN).tolist()

    def __str__(self) -> str:
        right, named = np.array(self.right), np.array(self.named)
        share, wrong = named.mean(), (named & ~right).mean()
        return f"{right.mean():.2f} | {share - wrong:.1%} | {wrong:.1%}"


def draw_site(seed: int, patients: int, policy: Disclosure) -> Site:
    labels = np.zeros(patients, np.float32)
    chosen = np.random.default_rng(seed).permutation(patients)
    labels[chosen[: round(PREVALENCE * patients)]] = 1
    return Site(labels, policy, seed=seed)


# Before: exact figures, in float64


def by_exact_loss(site: Site) -> tuple[int, NDArray[np.bool_]]:
    """Questions asked, and the labels: n·loss is Σ log(1 + exp(z)) minus the logits of all with the
    outcome, and these are powers of two."""
    n, known = len(site.labels), np.zeros(len(site.labels), bool)
    groups = [np.arange(n)[start : start + BITS] for start in range(0, n, BITS)]
    for group in groups:
        logits = np.zeros(n)
        logits[group] = 2.0 ** np.arange(len(group))
        loss = float(np.mean(np.logaddexp(0, logits) - site.labels * logits))
        total = round(float(np.logaddexp(0, logits).sum()) - n * loss)
        known[group] = [bool(total >> k & 1) for k in range(len(group))]
    return len(groups), known


# Rounding alone: bisection to the edge of a step


def by_bisection(site: Site, seed: int) -> tuple[int, int]:
    """(patients named, of these rightly) in 30 rounds of an AUROC that is rounded without noise."""
    p, n = site.positives, site.negatives
    step = step_of_error(_null_error(p, n))
    rng = np.random.default_rng(seed)
    asked = 0

    def answer(order: Integers) -> int:
        nonlocal asked
        asked += 1
        return round(roc_auc_score(site.labels[order], np.arange(p + n)) / step)

    while True:  # two orders with different answers; the second is the first one upside down
        order = rng.permutation(p + n)
        first, last = answer(order), answer(order[::-1])
        if first != last or asked >= ROUNDS:
            break
    if first == last:
        return 0, 0
    low, high = _edge(answer, order, first)
    # `other` is just above an edge of a step, `one` just below: with the outcome is who is higher
    # in `other`. If a patient with the outcome moves to the bottom of `other`, the answer falls
    # below the edge; it never does for a patient without.
    one, other = (low, high) if last > first else (high, low)
    above = max(first, last) if abs(last - first) == 1 else answer(other)
    a, b = one[one != other]
    named = {int(a): True, int(b): False}
    for target in rng.permutation(other[len(other) // 2 :]):
        if asked >= ROUNDS:
            break
        moved = np.append(target, other[other != target])
        named[int(target)] = answer(moved) < above
    return len(named), sum(bool(site.labels[k]) == label for k, label in named.items())


def _edge(
    answer: Callable[[Integers], int], order: Integers, first: int
) -> tuple[Integers, Integers]:
    """Two orders that differ by an exchange of neighbours, with different answers."""
    low, high = 0, len(order) * (len(order) - 1) // 2
    while high - low > 1:
        middle = (low + high) // 2
        same = answer(_between(order, middle)) == first
        low, high = (middle, high) if same else (low, middle)
    return _between(order, low), _between(order, high)


def _between(order: Integers, exchanges: int) -> Integers:
    """An order after a number of exchanges of neighbours on the way to its reverse: one patient
    after the other goes from the top to behind those that went before."""
    n, place = len(order), 0
    while place < n - 1 and exchanges >= n - 1 - place:
        exchanges -= n - 1 - place
        place += 1
    rest = order[: n - place]
    if len(rest) > 1:
        rest = np.insert(rest[:-1], len(rest) - 1 - exchanges, rest[-1])
    return np.concatenate([order[::-1][:place], rest])


# Noise: least squares


def designed(targets: int) -> NDArray[np.bool_]:
    """(30, targets): whether each is at the top, half of the rounds each."""
    if targets == 1:
        return np.arange(ROUNDS)[:, None] % 2 == 0
    return hadamard(32)[2:, 1 : targets + 1] > 0


def orders(site: Site, targets: int, rng: np.random.Generator) -> Iterator[Integers]:
    """The order of each round: the first patients are the targets."""
    others = rng.permutation(np.arange(targets, len(site.labels)))
    for top in designed(targets):
        mixed = rng.permutation(targets)
        yield np.concatenate([mixed[~top[mixed]], others, mixed[top[mixed]]])


def by_least_squares(site: Site, targets: int, noise: float, seed: int) -> Floats:
    """Log odds that each target has the outcome, (targets,).

    With R the ranks, AUROC·P·N + P(P+1)/2 is the sum of the ranks of all with the outcome. All
    others move by the same number of places, so that the sum is linear in the targets' labels and
    one constant. The labels are independent with the known prevalence; the posterior is normal, and
    each target's own prior is taken out of it again before its two values are compared.
    """
    p, n = site.positives, site.negatives
    rows, sums = [], []
    for order in orders(site, targets, np.random.default_rng(seed)):
        value = site.auroc(order)
        if value is None:
            return np.full(targets, logit(p / (p + n)))
        rank = np.empty(len(order))
        rank[order] = np.arange(1, len(order) + 1)
        below = int(np.flatnonzero(order >= targets)[0])
        rows.append(rank[:targets] - below)
        sums.append(value * p * n + p * (p + 1) / 2 - below * p)
    prior = p / (p + n)
    spread = prior * (1 - prior)
    design = np.column_stack([np.array(rows), np.ones(ROUNDS)]) / (p * n * noise)
    precision = design.T @ design + np.diag([*[1 / spread] * targets, 1e-12])
    covariance = np.linalg.inv(precision)
    observed = np.array(sums) / (p * n * noise)
    mean = covariance @ (design.T @ observed + np.append(np.full(targets, prior / spread), 0.0))
    own = np.diag(covariance)[:targets]
    variance = 1 / np.maximum(1e-12, 1 / own - 1 / spread)
    centre = variance * (mean[:targets] / own - prior / spread)
    return np.asarray(logit(prior) + (2 * centre - 1) / (2 * variance))


def membership(site: Site, member: bool, noise: float, seed: int) -> float:
    """Log of how much likelier the answers are if the person is among the patients."""
    p, n = site.positives, site.negatives
    difference = []
    for order, (top,) in zip(
        orders(site, 1, np.random.default_rng(seed)), designed(1), strict=True
    ):
        # Of an outsider, nothing depends on where the person is scored.
        value = site.auroc(order if member else np.append(0, order[order != 0]))
        if value is None:
            return 0.0
        difference.append(value if top else -value)
    moved, error = np.sum(difference) / (ROUNDS / 2), noise * np.sqrt(4 / ROUNDS)
    prior = p / (p + n)
    inside = prior * norm.pdf(moved, 1 / p, error) + (1 - prior) * norm.pdf(moved, -1 / n, error)
    return float(np.log(inside) - norm.logpdf(moved, 0, error))


# The table


def _null_error(p: int, n: int) -> float:
    return float(np.sqrt((p + n + 1) / (12 * p * n)))


def policies() -> dict[str, Callable[[int], Disclosure]]:
    def policy(
        monitored: HowMonitored, epsilon: float = 0.0, questions: int = ROUNDS
    ) -> Callable[[int], Disclosure]:
        def of_seed(seed: int) -> Disclosure:
            return Disclosure(
                10,
                3,
                epsilon,
                secret=seed.to_bytes(32),
                monitored=monitored,
                questions=questions,
                figures=ROUNDS,
            )

        return of_seed

    return {
        "rounded": policy("rounded"),
        "rounded, noise as for 300 rounds": policy("rounded", questions=10 * ROUNDS),
        "noisy, ε = 1": policy("noisy", 1.0),
        "noisy, ε = 30": policy("noisy", 30.0),
        "none": policy("none"),
    }


def noise_of(name: str, policy: Disclosure, p: int, n: int) -> float:
    """Standard deviation of the noise and the rounding of one answer."""
    if name.startswith("rounded"):
        error = _null_error(p, n) * np.sqrt(policy.questions / ROUNDS)
        return float(np.sqrt(error**2 + step_of_error(error) ** 2 / 12))
    if name == "none":
        return 1.0
    return float(np.sqrt(2)) * 2 / policy.minimum_units * policy.figures / policy.epsilon


COLUMNS = (
    "patients",
    "what leaves",
    "error of an answer",
    "one patient: right",
    "named rightly",
    "wrongly",
    "29 patients: right",
    "named rightly",
    "wrongly",
    "membership, AUROC",
)


def attack(sites: int, seed: int) -> None:
    """Print the table. `sites`: simulated sites for each size and setting."""
    print("| " + " | ".join(COLUMNS) + " |")
    print("| --- " * len(COLUMNS) + "|")
    closed = policies()["none"]
    for patients in SIZES:
        before = draw_site(seed, patients, closed(0))
        asked, known = by_exact_loss(before)
        right = f"{(known == before.labels.astype(bool)).mean():.2f}"
        print(
            f"| {patients} | exact AUROC and loss (before) | 0 | {right} | 100% | 0% "
            f"| {right}; all {patients} in {asked} questions | 100% | 0% | 1.00 |"
        )
        named, rightly = np.sum(
            [by_bisection(draw_site(s, patients, closed(0)), s) for s in range(seed, seed + sites)],
            axis=0,
        )
        print(
            f"| {patients} | AUROC rounded, no noise | 0 | {rightly / named:.2f} | 100% | 0% "
            f"| {named / sites:.0f} patients named | {rightly / named:.0%} "
            f"| {1 - rightly / named:.0%} | 1.00 |"
        )
        for name, policy in policies().items():
            _print_row(name, policy, patients, sites, seed)


def _print_row(
    name: str, policy: Callable[[int], Disclosure], patients: int, sites: int, seed: int
) -> None:
    one, many, inside, outside = Result(), Result(), [], []
    for number in range(seed, seed + sites):
        site = draw_site(number, patients, policy(number))
        p, n = site.positives, site.negatives
        noise = noise_of(name, site.policy, p, n)
        truth = site.labels.astype(bool)
        one.add(by_least_squares(site, 1, noise, number), truth[:1])
        inside.append(membership(site, True, noise, number))
        outside.append(membership(site, False, noise, number))
        if number % 5 == 0:
            many.add(by_least_squares(site, MANY, noise, number), truth[:MANY])
    auroc = roc_auc_score([1] * sites + [0] * sites, inside + outside)
    error = "" if name == "none" else f"{noise:.2f}"
    print(f"| {patients} | {name} | {error} | {one} | {many} | {auroc:.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    attack(arguments.sites, arguments.seed)
