"""What an attacker can infer about one patient from the figures of one model that a site releases.

Two attackers both have the model. The first has a person's image and outcome, and wants to know
whether the person is among the test patients (membership inference). The second knows this and the
outcome, and wants to know the score. Both know the distribution of scores of each class outside the
site (two normals, AUROC 0.8).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from random_federations import SiteScores, normals, release
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fedrad.client.figures.disclosure import Disclosure
from fedrad.exchange.histogram import GRID, Histogram, grid_cells
from fedrad.stats.exact import Units

Floats = NDArray[np.float64]

TRUTH, SCALE = 0.8, 1.5
"""AUROC of the model, and the standard deviation of its logits within a class."""
DISTANCE = SCALE * float(np.sqrt(2) * norm.ppf(TRUTH))

RULES = {
    "defaults (bins of 3)": Disclosure(minimum_units=10, minimum_bin=3),
    "bins of 1": Disclosure(minimum_units=10, minimum_bin=1),
    "bins of 10": Disclosure(minimum_units=10, minimum_bin=10),
    "ε = 1": Disclosure(minimum_units=10, minimum_bin=3, epsilon=1.0, secret=bytes(32)),
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
class Inference:
    """What can be inferred about the patients of one simulated site.

    Shares are of all outside scores of the patient's class.
    """

    members: Floats
    """Likelihood ratio of membership, from the histogram, for each member."""
    outsiders: Floats
    """The same for each outsider."""
    half: Floats
    """Share of scores in the likeliest bins that together hold half of the site's patients."""
    bin: Floats
    """Share of scores in the member's bin: what remains possible if all other scores are known."""
    rank: Floats
    """Share of scores within that bin and between the neighbours of the other class: what remains
    possible if the exact AUROC is known too."""
    bins: int
    """Number of bins."""


def attack(repeats: int) -> None:
    """Print the table for sites of 20, 50 and 200 units."""
    print("| " + " | ".join(COLUMNS) + " |")
    print("| --- " * len(COLUMNS) + "|")
    for positives, negatives in ((10, 10), (20, 30), (60, 140)):
        for name, rule in RULES.items():
            inferences = [
                attack_site(np.random.default_rng(seed), positives, negatives, rule)
                for seed in range(repeats)
            ]
            _print(f"{positives} / {negatives}", name, inferences, noisy=rule.epsilon > 0)


def _print(size: str, name: str, inferences: list[Inference], *, noisy: bool) -> None:
    members, outsiders = (
        np.concatenate([getattr(t, field) for t in inferences])
        for field in ("members", "outsiders")
    )
    y = np.repeat([1, 0], [len(members), len(outsiders)])
    cuts = np.unique(np.concatenate([members, outsiders]))
    above = [1 - np.searchsorted(np.sort(v), cuts) / len(v) for v in (members, outsiders)]
    certain = 0.0 if noisy else (outsiders == 0).mean()
    half, bin_, rank = (
        f"{100 * np.median(np.concatenate([getattr(t, field) for t in inferences])):.1f} %"
        for field in ("half", "bin", "rank")
    )
    row = [
        size,
        name,
        f"{np.mean([t.bins for t in inferences]):.0f}",
        f"{100 * certain:.0f} %",
        f"{roc_auc_score(y, np.concatenate([members, outsiders])):.2f}",
        f"{(above[0] - above[1]).max():.2f}",
        *(("–",) * 3 if noisy else (half, bin_, rank)),
    ]
    print("| " + " | ".join(row) + " |", flush=True)


def attack_site(
    rng: np.random.Generator, positives: int, negatives: int, rule: Disclosure
) -> Inference:
    """Attack one simulated site with as many outsiders."""
    data, others = (
        SiteScores(d.logits * SCALE, d.labels)
        for d in (normals(rng, positives, negatives, TRUTH) for _ in range(2))
    )
    if rule.epsilon:
        h = rule.noisy_histogram(data.logits, Units(data.labels), str(rng.integers(2**62)), "y")
    else:
        released = release("a", data, rule, None).scores[0].histogram
        assert released is not None
        h = released
    walls = GRID[np.array(h.edges)].copy()
    walls[0], walls[-1] = -np.inf, np.inf
    values = {name: np.empty(len(data.logits)) for name in ("members", "half", "bin", "rank")}
    outsiders = np.empty(len(others.logits))
    for label, counts in ((1.0, h.positives), (0.0, h.negatives)):
        outside = _share(label, walls[:-1], walls[1:])
        inside = np.maximum(0, np.array(counts, float)) / max(1, sum(counts))
        ratio = inside / np.maximum(outside, 1e-9)
        own, foreign = data.labels == label, others.labels == label
        at = _bins(h, data.logits[own])
        values["members"][own] = ratio[at]
        outsiders[foreign] = ratio[_bins(h, others.logits[foreign])]
        likeliest = np.argsort(-ratio)
        needed = int(np.searchsorted(np.cumsum(inside[likeliest]), 0.5)) + 1
        values["half"][own] = outside[likeliest[:needed]].sum()
        values["bin"][own] = outside[at]
        fence = np.concatenate([[-np.inf], np.sort(data.logits[~own]), [np.inf]])
        place = np.searchsorted(fence, data.logits[own])
        low = np.maximum(fence[place - 1], walls[:-1][at])
        high = np.minimum(fence[place], walls[1:][at])
        values["rank"][own] = _share(label, low, high)
    return Inference(outsiders=outsiders, bins=len(h.edges) - 1, **values)


def _share(label: float, low: Floats, high: Floats) -> Floats:
    """Share of outside scores of a class between two logits."""
    at = DISTANCE * label
    return np.asarray(norm.cdf(high, at, SCALE) - norm.cdf(low, at, SCALE))


def _bins(h: Histogram, logits: Floats) -> NDArray[np.int64]:
    return np.asarray(np.searchsorted(h.edges, grid_cells(logits), side="right") - 1)
