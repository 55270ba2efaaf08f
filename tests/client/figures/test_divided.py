"""Two released histograms of the same patients: their difference isolates nobody either."""

from itertools import pairwise

import numpy as np
import pytest

from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.divided import Divided
from fedrad.client.figures.one_split import OneSplit
from fedrad.client.figures.scored_units import ScoredUnits
from fedrad.exchange.figures import OperatingPoint, Release
from fedrad.exchange.histogram import CELLS, GRID
from fedrad.stats.exact import Units

RULE = Disclosure(minimum_units=5, minimum_bin=3)
N = 134


def two_models(first: np.ndarray, second: np.ndarray, labels: np.ndarray, **operating) -> Release:
    """What leaves about a model and another one, as the global one and the best one."""
    logits = {"global": first[:, None], "best": second[:, None]}
    scored = ScoredUnits(labels[:, None].astype(np.float32), None, logits)
    points = {m: {"y": OperatingPoint(threshold=edge)} for m, edge in operating.items()}
    split = OneSplit(["y"], RULE, "local:a", {}, "test", points)
    return split.release([scored], [], ["best", "global"], {})


def between_edges(release: Release, shift: float) -> list[tuple[int, int]]:
    """Positives and negatives between neighbouring edges of both histograms, of which the best
    model's are shifted."""
    below = {}
    for scores in release.scores:
        histogram = scores.histogram
        by = shift if scores.model == "best" else 0.0
        for k, edge in enumerate(histogram.edges):
            at = {0: -np.inf, CELLS: np.inf}.get(edge, GRID[edge] - by)
            below[at] = (sum(histogram.positives[:k]), sum(histogram.negatives[:k]))
    ordered = [below[at] for at in sorted(below)]
    return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(ordered)]


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1, 0.24, 0.5])
@pytest.mark.parametrize("scale", [0.5, 2.0, 5.6])
def test_a_second_model_whose_scores_are_shifted_isolates_nobody(scale, shift):
    """fedrad 0.1.0 let 11 of 134 patients stand alone between two edges, of both of which it
    gave the counts; up to 21 with the best shift."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, scale, N), rng.random(N) < 0.3
    inside = between_edges(two_models(logits, logits + shift, labels), shift)
    assert min(n for n in map(sum, inside) if n) >= RULE.minimum_bin
    turned = two_models(logits, -logits, labels)
    assert len(turned.scores[0].histogram.edges) > 5, "there still is a histogram"


def test_a_threshold_of_the_coordinators_choice_cuts_out_nobody():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 2, N), rng.random(N) < 0.3
    for edge in range(50, 80):
        inside = between_edges(two_models(logits, logits, labels, best=edge), 0.0)
        assert min(n for n in map(sum, inside) if n) >= RULE.minimum_bin


def test_a_second_model_that_moves_one_patient_does_not_tell_the_patients_outcome():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, N)
    moved = np.where(np.arange(N) == 7, logits + 4, logits)
    answers = []
    for outcome in (0, 1):
        labels = (rng.random(N) < 0.3).astype(float)
        labels[7] = outcome
        global_, best = two_models(logits, moved, labels).scores[::-1]
        assert (global_.model, best.model) == ("global", "best")
        shared = {*global_.histogram.edges} & {*best.histogram.edges}
        answers += [
            sum(best.histogram.positives[: best.histogram.edges.index(edge)])
            - sum(global_.histogram.positives[: global_.histogram.edges.index(edge)])
            for edge in shared
        ]
    assert set(answers) == {0}


def test_models_that_differ_much_keep_their_histograms():
    rng = np.random.default_rng(3)
    labels = rng.random(400) < 0.3
    one, other = rng.normal(labels, 1.0), rng.normal(labels, 1.0)
    alone = Divided(RULE).histogram(other, Units(labels.astype(float)))
    best, _ = two_models(one, other, labels).scores
    assert len(best.histogram.edges) >= 0.7 * len(alone.edges)


def test_of_patients_with_several_images_patients_are_counted():
    images = np.repeat(np.arange(30), 4)
    units = Units((images % 3 == 0).astype(float), images)
    divided = Divided(RULE)
    side = images < 12
    divided.add(side)
    assert divided.allows(side, units)
    assert not divided.allows(images < 14, units), "eight images of two patients"
    assert divided.allows(images < 15, units)
    assert not divided.allows(images >= 14, units), "the same with the sides exchanged"
