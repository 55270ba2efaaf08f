"""Figures of all folds together; each fold is calibrated on its own validation patients."""

import csv

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from support.hospital import EXPERIMENT, with_, write_cohort, write_site

from fedrad.client.figures.cross_validation import CrossValidation
from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.divided import Divided
from fedrad.client.figures.out_of_fold import out_of_fold
from fedrad.client.figures.scored_units import Fold, ScoredUnits
from fedrad.client.policy.ledger import Ledger
from fedrad.deploy.local.cross_validate import cross_validate
from fedrad.exchange.figures import Scores
from fedrad.exchange.histogram import grid_cells
from fedrad.server.results.contradictions import contradiction
from fedrad.stats import thresholds
from fedrad.stats.exact import Units

OPEN = Disclosure(minimum_units=1, minimum_bin=1)


def part(rng, positives, negatives, *, scale=1.0, shift=0.0, start=0):
    """Raw logits and units of one fold; `start`: number of its first patient."""
    labels = np.repeat([1, 0], [positives, negatives]).astype(np.float32)
    raw = shift + scale * rng.normal(1.5 * labels, 1.0)
    return Fold(Units(labels, start + np.arange(len(labels))), [raw], {})


def folds(rng, scales=((1.0, 0.0), (3.0, -2.0), (0.5, 4.0))):
    """Test and validation units of folds whose models score on scales of their own."""
    tested = [part(rng, 15, 25, scale=s, shift=m, start=100 * i) for i, (s, m) in enumerate(scales)]
    validated = [
        part(rng, 20, 30, scale=s, shift=m, start=1000 + 100 * i) for i, (s, m) in enumerate(scales)
    ]
    return tested, validated


def test_the_figures_are_those_of_the_mapped_scores_of_all_folds():
    tested, validated = folds(np.random.default_rng(1))
    figures = out_of_fold(tested, validated, Divided(OPEN))
    assert figures is not None
    mapped, called, labels = [], [], []
    for fold, seen in zip(tested, validated, strict=True):
        chosen = thresholds.choose_at_site(seen.logits[0], seen.units)
        mapped.append(chosen.calibration.logits(fold.logits[0]))
        called.append(grid_cells(fold.logits[0]) >= chosen.threshold)
        labels.append(fold.units.labels)
    z, c, y = map(np.concatenate, (mapped, called, labels))
    assert figures.ranks.average_precision == pytest.approx(average_precision_score(y, z))
    assert figures.probabilities.exact.brier == pytest.approx(brier_score_loss(y, expit(z)))
    assert figures.probabilities.by == "site"
    decided = figures.decided
    assert decided is not None
    assert (decided.true_positives, decided.false_negatives) == (
        int(c[y == 1].sum()),
        int((~c[y == 1]).sum()),
    )
    assert (decided.false_positives, decided.true_negatives) == (
        int(c[y == 0].sum()),
        int((~c[y == 0]).sum()),
    )
    assert (figures.histogram.total_positives, figures.histogram.total_negatives) == (45, 75)


def test_the_scale_of_a_folds_model_does_not_matter():
    scales = (1.0, 0.0), (3.0, -2.0), (0.5, 4.0)
    tested, validated = folds(np.random.default_rng(2), scales)
    one = out_of_fold(tested, validated, Divided(OPEN))
    plain = [
        [
            Fold(fold.units, [(fold.logits[0] - m) / s], {})
            for fold, (s, m) in zip(part_, scales, strict=True)
        ]
        for part_ in (tested, validated)
    ]
    two = out_of_fold(*plain, Divided(OPEN))
    assert one is not None
    assert two is not None
    assert one.ranks.average_precision == pytest.approx(two.ranks.average_precision)
    assert one.probabilities.exact.brier == pytest.approx(two.probabilities.exact.brier, abs=1e-6)
    raw, labels = (
        np.concatenate([fold.logits[0] for fold in tested]),
        np.concatenate([fold.units.labels for fold in tested]),
    )
    mixed = average_precision_score(labels, raw)
    assert one.ranks.average_precision > mixed + 0.05, (
        "raw scores of three models are on three scales"
    )


def test_no_choice_in_a_fold_depends_on_its_test_patients():
    tested, validated = folds(np.random.default_rng(3))
    turned = [
        Fold(Units(1 - fold.units.labels, fold.units.patients), fold.logits, {}) for fold in tested
    ]
    one, other = (
        out_of_fold(tested, validated, Divided(OPEN)),
        out_of_fold(turned, validated, Divided(OPEN)),
    )
    assert one is not None
    assert other is not None
    assert one.histogram.edges == other.histogram.edges
    assert one.histogram.positives == other.histogram.negatives
    assert one.decided.true_positives == other.decided.false_positives
    assert one.probabilities.curve == other.probabilities.curve


def test_figures_without_a_choice_or_with_too_few_patients_are_withheld():
    tested, validated = folds(np.random.default_rng(4))
    ill = validated[0].units.positive
    one_class = Fold(validated[0].units.select(ill), [validated[0].logits[0][ill]], {})
    assert out_of_fold(tested, [one_class, *validated[1:]], Divided(OPEN)) is None
    assert out_of_fold(tested, validated[1:], Divided(OPEN)) is None, (
        "a fold has no validation scores"
    )
    far = [Fold(fold.units, [fold.logits[0] + 50], {}) for fold in tested]  # all called positive,
    far[0].logits[0][:4] -= 100  # but a few
    figures = out_of_fold(far, validated, Divided(Disclosure(minimum_units=10, minimum_bin=3)))
    assert figures is not None
    assert figures.decided is None
    assert figures.probabilities.exact.brier > 0.3
    in_bins = np.array(figures.histogram.positives) + np.array(figures.histogram.negatives)
    assert in_bins.min() >= 3


def scored(part_, groups=None):
    units, raw = part_.units, part_.logits[0]
    return ScoredUnits(
        units.labels[:, None], units.patients, {"global": raw[:, None]}, groups or {}
    )


def test_with_repeats_each_patient_counts_once():
    tested, validated = folds(np.random.default_rng(5))
    rule = CrossValidation(["y"], Disclosure(10, 3), "local:a")
    first = [scored(p) for p in tested]
    release = rule.exact([*first, *first], [scored(p) for p in validated], ["global"], {})
    figures = release.scores[0].out_of_fold
    assert figures is not None
    assert figures == out_of_fold(tested, validated, Divided(Disclosure(10, 3)))


def test_of_another_sites_model_only_the_auroc_is_released():
    tested, validated = folds(np.random.default_rng(8))
    parts = [
        [ScoredUnits(s.labels, s.patients, {"local:b": s.logits["global"]}) for s in map(scored, p)]
        for p in (tested, validated)
    ]
    rules = [CrossValidation(["y"], Disclosure(10, 3), own) for own in ("local:a", "local:b")]
    [guest], [own] = (r.release(*parts, ["local:b"], {}).scores for r in rules)
    assert guest.auroc == own.auroc
    assert (guest.out_of_fold is None, own.out_of_fold is None) == (True, False)


def test_contradictions_in_what_a_site_sends_of_all_folds_are_seen():
    tested, validated = folds(np.random.default_rng(6))
    sound = out_of_fold(tested, validated, Divided(OPEN))
    assert sound is not None

    def why(positives=45, **changes):
        sent = Scores(
            model="global",
            outcome="y",
            positives=positives,
            negatives=75,
            auroc=0.7,
            variance=0.01,
            folds=[0.7] * 3,
            out_of_fold=sound.model_copy(update=changes),
        )
        return contradiction(sent)

    assert why() is None
    assert "lacks patients" in why(positives=46)
    more = sound.decided.model_copy(update={"true_positives": sound.decided.true_positives + 1})
    assert "decided" in why(decided=more)
    ends = [b for b in sound.probabilities.curve if b.end != 128]
    cut = sound.probabilities.model_copy(update={"curve": ends})
    assert "curve" in why(probabilities=cut)


# Groups


def test_a_group_is_evaluated_within_each_fold_and_folds_are_weighted_by_pairs():
    rng = np.random.default_rng(7)
    tested, _ = folds(rng)
    groups = [{"sex": rng.integers(0, 2, 40)} for _ in tested]
    rule = CrossValidation(["y"], Disclosure(10, 3), "local:a", {"sex": ("F", "M")})
    release = rule.exact(
        [scored(p, g) for p, g in zip(tested, groups, strict=True)], [], ["global"], {}
    )
    for figures in release.subgroups:
        aurocs, pairs, positives = [], [], 0
        for fold, of_fold in zip(tested, groups, strict=True):
            inside = of_fold["sex"] == figures.group
            y = fold.units.labels[inside]
            aurocs.append(roc_auc_score(y, fold.logits[0][inside]))
            pairs.append(int(y.sum() * (1 - y).sum()))
            positives += int(y.sum())
        assert figures.auroc == pytest.approx(np.average(aurocs, weights=pairs))
        assert figures.positives == positives
        assert 0 < figures.variance < 0.02
    assert len(release.subgroups) == 2
    few = [{"sex": (np.arange(40) % 8 == 0).astype(int)} for _ in tested]
    parts = [scored(p, g) for p, g in zip(tested, few, strict=True)]
    release = rule.release(parts, [], ["global"], {})
    assert {s.missing for s in release.subgroups} == {"below minimum"}, (
        "one group discloses the other"
    )


# A whole cross-validation


def test_a_policy_that_shares_no_histograms_and_groups_holds_over_folds_too(tmp_path):
    sites = {n: write_site(tmp_path / n, 60, seed=i) for i, n in enumerate("ab", 1)}
    for folder in sites.values():
        with (folder / "cohort.csv").open() as file:
            rows = [{**row, "sex": "FM"[i % 2]} for i, row in enumerate(csv.DictReader(file))]
        write_cohort(folder, rows)
    settings = sites["b"] / "site.toml"
    settings.write_text(
        settings.read_text() + "share_histograms = false\nshare_subgroups = false\n"
    )
    file = tmp_path / "experiment.toml"
    text = EXPERIMENT.replace("rounds = 2", "rounds = 1")
    file.write_text(with_(text, folds="3", subgroups='{ sex = ["F", "M"] }'))
    summary = cross_validate(file, sites, tmp_path / "out")
    cells = {c.site: c for c in summary.cells if c.model == "global"}
    assert cells["a"].calibration_curve
    assert cells["b"].auroc is not None
    assert not cells["b"].calibration_curve
    assert not cells["b"].roc
    assert cells["b"].decisions.sensitivity is None
    assert {g.missing for g in summary.subgroups if g.site == "b"} == {"declined"}
    ledger = (tmp_path / "out" / "sites" / "b" / "ledger.jsonl").read_text()
    assert "out_of_fold" not in ledger


def test_a_cross_validation_has_the_figures_of_all_its_folds(tmp_path):
    sites = {n: write_site(tmp_path / n, 60, seed=i) for i, n in enumerate("ab", 1)}
    for folder in sites.values():
        with (folder / "cohort.csv").open() as file:
            rows = [{**row, "sex": "FM"[i % 2]} for i, row in enumerate(csv.DictReader(file))]
        write_cohort(folder, rows)
    file = tmp_path / "experiment.toml"
    text = EXPERIMENT.replace("rounds = 2", "rounds = 1")
    file.write_text(with_(text, folds="3", repeats="2", subgroups='{ sex = ["F", "M"] }'))
    summary = cross_validate(file, sites, tmp_path / "out")
    cells = {(c.model, c.site): c for c in summary.cells}
    for model in ("global", "local:a"):
        cell = cells[(model, "a")]
        assert cell.probabilities.brier is not None
        assert cell.calibrated_by == "site"
        assert cell.ranks.average_precision is not None
        assert cell.roc[-1] == (1.0, 1.0)
        assert sum(point.units for point in cell.calibration_curve) == 60
        assert cell.decisions.sensitivity is not None or cell.withheld == {
            "sensitivity": "below minimum"
        }
    whole = next(o for o in summary.overall if o.model == "global")
    assert whole.threshold_from == "folds"
    assert whole.threshold is None
    assert whole.pooled is None, "each hospital has its own calibration"
    briers = [cells[("global", n)].probabilities.brier for n in "ab"]
    assert whole.probabilities.brier == pytest.approx(np.mean(briers))
    if whole.threshold_sites == ["a", "b"]:
        both = [cells[("global", n)].decisions.sensitivity for n in "ab"]
        assert whole.decisions.sensitivity == pytest.approx(np.mean(both))
    assert {s.group for s in summary.subgroups if s.auroc is not None} == {"F", "M"}
    for name in "ab":
        ledger = Ledger(tmp_path / "out" / "sites" / name / "ledger.jsonl").entries()
        sent = [e["message"]["part"] for e in ledger if e["message"]["kind"] == "release"]
        assert sent == ["test"], "no site releases figures of the validation patients of a fold"
    report = (tmp_path / "out" / "report.html").read_text()
    assert "each with the calibration of its fold" in report
