"""What one who holds a site's released figures of one model can say about one patient.

Two attackers, both with the model. One has a person's image and outcome, and asks whether the
person is among the test patients. The other knows that a person is, with the outcome, and asks for
the score. Both are given what scores of each class look like outside (two normals, AUROC 0.8).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from random_federations import SiteScores, normals, release
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fedrad.client.figures.disclosure import Disclosure
from fedrad.exchange.histogram import GRID, Histogram, cells_of

Floats = NDArray[np.float64]

TRUTH, SCALE = 0.8, 1.5
"""AUROC of the model, and the standard deviation of its logits within a class."""
DISTANCE = SCALE * float(np.sqrt(2) * norm.ppf(TRUTH))

RULES = {
    "defaults (bins of 3)": Disclosure(minimum_units=10, minimum_bin=3),
    "bins of 1": Disclosure(minimum_units=10, minimum_bin=1),
    "bins of 10": Disclosure(minimum_units=10, minimum_bin=10),
    "ε = 1": Disclosure(minimum_units=10, minimum_bin=3, epsilon=1.0),
}
COLUMNS = (
    "units with / without",
    "rule",
    "bins",
    "outsiders certainly told",
    "membership, AUROC",
    "largest advantage",
    "score: outside scores that remain",
    "all other scores known",
    "and the exact AUROC",
)


@dataclass(frozen=True)
class Told:
    """What is told of the patients of one simulated site.

    `members`, `outsiders`: how much likelier the histogram makes it that one is a member. `half`,
    `bin`, `rank`: for members the share of all outside scores of their class that remains: in the
    bins likeliest to hold the score that together hold half of the site's; in the bin, which is
    what remains when all other scores are known; and between the neighbours of the other class
    within it, which the exact AUROC then tells.
    """

    members: Floats
    outsiders: Floats
    half: Floats
    bin: Floats
    rank: Floats
    bins: int


def attack(repeats: int) -> None:
    """Print the table for sites of 20, 50 and 200 units."""
    print("| " + " | ".join(COLUMNS) + " |")
    print("| --- " * len(COLUMNS) + "|")
    for positives, negatives in ((10, 10), (20, 30), (60, 140)):
        for name, rule in RULES.items():
            told = [
                attacked(np.random.default_rng(seed), positives, negatives, rule)
                for seed in range(repeats)
            ]
            _print(f"{positives} / {negatives}", name, told, noisy=rule.epsilon > 0)


def _print(size: str, name: str, told: list[Told], *, noisy: bool) -> None:
    members, outsiders = (
        np.concatenate([getattr(t, field) for t in told]) for field in ("members", "outsiders")
    )
    y = np.repeat([1, 0], [len(members), len(outsiders)])
    cuts = np.unique(np.concatenate([members, outsiders]))
    above = [1 - np.searchsorted(np.sort(v), cuts) / len(v) for v in (members, outsiders)]
    certain = 0.0 if noisy else (outsiders == 0).mean()
    half, bin_, rank = (
        f"{100 * np.median(np.concatenate([getattr(t, field) for t in told])):.1f} %"
        for field in ("half", "bin", "rank")
    )
    row = [
        size,
        name,
        f"{np.mean([t.bins for t in told]):.0f}",
        f"{100 * certain:.0f} %",
        f"{roc_auc_score(y, np.concatenate([members, outsiders])):.2f}",
        f"{(above[0] - above[1]).max():.2f}",
        *(("–",) * 3 if noisy else (half, bin_, rank)),
    ]
    print("| " + " | ".join(row) + " |", flush=True)


def attacked(rng: np.random.Generator, positives: int, negatives: int, rule: Disclosure) -> Told:
    """One simulated site, and as many outsiders."""
    data, others = (
        SiteScores(d.logits * SCALE, d.labels)
        for d in (normals(rng, positives, negatives, TRUTH) for _ in range(2))
    )
    h = release("a", data, rule, None).scores[0].histogram
    assert h is not None
    walls = GRID[np.array(h.edges)].copy()
    walls[0], walls[-1] = -np.inf, np.inf
    found = {name: np.empty(len(data.logits)) for name in ("members", "half", "bin", "rank")}
    outsiders = np.empty(len(others.logits))
    for label, counts in ((1.0, h.positives), (0.0, h.negatives)):
        outside = _share(label, walls[:-1], walls[1:])
        inside = np.maximum(0, np.array(counts, float)) / max(1, sum(counts))
        ratio = inside / np.maximum(outside, 1e-9)
        own, foreign = data.labels == label, others.labels == label
        at = _bins(h, data.logits[own])
        found["members"][own] = ratio[at]
        outsiders[foreign] = ratio[_bins(h, others.logits[foreign])]
        likeliest = np.argsort(-ratio)
        needed = int(np.searchsorted(np.cumsum(inside[likeliest]), 0.5)) + 1
        found["half"][own] = outside[likeliest[:needed]].sum()
        found["bin"][own] = outside[at]
        fence = np.concatenate([[-np.inf], np.sort(data.logits[~own]), [np.inf]])
        place = np.searchsorted(fence, data.logits[own])
        low = np.maximum(fence[place - 1], walls[:-1][at])
        high = np.minimum(fence[place], walls[1:][at])
        found["rank"][own] = _share(label, low, high)
    return Told(outsiders=outsiders, bins=len(h.edges) - 1, **found)


def _share(label: float, low: Floats, high: Floats) -> Floats:
    """Share of outside scores of a class between two logits."""
    at = DISTANCE * label
    return np.asarray(norm.cdf(high, at, SCALE) - norm.cdf(low, at, SCALE))


def _bins(h: Histogram, logits: Floats) -> NDArray[np.int64]:
    return np.asarray(np.searchsorted(h.edges, cells_of(logits), side="right") - 1)
