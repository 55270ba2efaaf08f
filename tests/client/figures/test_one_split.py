"""One split is a cross-validation of one fold."""

import numpy as np
import pytest

from fedrad.client.figures.cross_validation import CrossValidation
from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.one_split import OneSplit
from fedrad.client.figures.scored_units import ScoredUnits

MODELS = ["base", "local:a", "local:b", "global"]
GROUPS = {"sex": ("F", "M", "X")}


def scored(n: int = 120, seed: int = 0) -> ScoredUnits:
    """Two outcomes; the base has no output for the second, and the third group is empty."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 2)) < 0.4).astype(np.float32)
    logits = {m: rng.normal(labels * 1.2, 1.0) for m in MODELS}
    logits["base"][:, 1] = np.nan
    return ScoredUnits(labels, np.arange(n), logits, {"sex": rng.integers(0, 2, n)})


@pytest.mark.parametrize("subgroups", [True, False])
@pytest.mark.parametrize("histograms", [True, False])
@pytest.mark.parametrize("minimum", [5, 40, 60])
def test_auroc_comparisons_and_groups_are_the_same(subgroups, histograms, minimum):
    rule = Disclosure(minimum, 3, histograms=histograms, subgroups=subgroups)
    about = (["y", "z"], rule, "local:a", GROUPS)
    units, why = [scored()], {"best": "not run"}
    one = OneSplit(*about, "test", {}).release(units, [scored(seed=1)], [*MODELS, "best"], why)
    folds = CrossValidation(*about).release(units, [], [*MODELS, "best"], why)
    for a, b in zip(one.scores, folds.scores, strict=True):
        assert (a.model, a.outcome, a.missing) == (b.model, b.outcome, b.missing)
        assert (a.positives, a.negatives, a.auroc) == (b.positives, b.negatives, b.auroc)
        assert a.variance == pytest.approx(b.variance)
        assert a.histogram_missing == b.histogram_missing
    assert {s.missing for s in one.scores} >= {"not run"}
    for a, b in zip(one.comparisons, folds.comparisons, strict=True):
        assert (a.other, a.outcome, a.missing) == (b.other, b.outcome, b.missing)
        assert (a.difference, a.variance) == pytest.approx((b.difference, b.variance))
    for a, b in zip(one.subgroups, folds.subgroups, strict=True):
        assert (a.group, a.outcome, a.missing) == (b.group, b.outcome, b.missing)
        assert (a.positives, a.auroc) == (b.positives, b.auroc)
        assert a.variance == pytest.approx(b.variance)
    assert len(one.comparisons) == 4
    assert len(one.subgroups) == 6


def test_of_validation_units_no_comparison_and_no_threshold_is_released():
    units, rule = [scored()], Disclosure(5, 3)
    split = OneSplit(["y", "z"], rule, "local:a", GROUPS, "validation", {})
    release = split.release(units, [scored(seed=1)], ["global"], {})
    assert (release.comparisons, release.subgroups) == ([], [])
    assert {s.site_threshold for s in release.scores} == {None}
    assert all(s.histogram for s in release.scores)
