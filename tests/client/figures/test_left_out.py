"""Sites and folds that are held out of training and tested."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.hospital import EXPERIMENT, run, with_, write_site

from fedrad.client.figures.cross_validation import CrossValidation
from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.scored_units import ScoredUnits
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.scoring import Scoring
from fedrad.client.participant.site_data import SiteData
from fedrad.client.policy.ledger import Ledger
from fedrad.client.settings import open_site
from fedrad.deploy.local import cross_validate as cross_validation
from fedrad.deploy.local.cross_validate import cross_validate
from fedrad.deploy.local.leave_one_site_out import auroc_at_new_site, leave_one_site_out
from fedrad.deploy.refused import Refused
from fedrad.exchange.experiment import parse_experiment, read_experiment
from fedrad.server.results.summary import Cell
from fedrad.stats.exact import Units, deviations, variance

# Sites that are left out


def test_a_held_out_site_tests_all_its_patients_and_changes_no_choice(sites, tmp_path):
    sites["c"] = write_site(tmp_path / "sites" / "c", 20, seed=5)
    summary = run(with_(EXPERIMENT, held_out='["c"]'), sites, tmp_path / "x")
    del sites["c"]
    without = run(EXPERIMENT, sites, tmp_path / "y")
    cells = {(c.model, c.site): c for c in summary.cells}
    assert (cells[("global", "c")].positives, cells[("global", "c")].negatives) == (10, 10)
    assert cells[("local:c", "c")].missing == "held out"
    assert {r.sites["c"].status for r in summary.rounds} == {"evaluated"}
    assert summary.overall == without.overall, "it is in no figure over sites"
    assert (summary.best, summary.calibration) == (without.best, without.calibration)
    [outside] = [o for o in summary.held_out if o.model == "global"]
    assert outside.within == cells[("global", "c")].auroc
    assert outside.decisions.sensitivity is not None
    report = (tmp_path / "x" / "out" / "report.html").read_text()
    assert "which took no part in training or choices" in report


def test_every_site_is_left_out_once_and_a_finished_run_is_not_run_again(sites, tmp_path):
    file = tmp_path / "experiment.toml"
    file.write_text(EXPERIMENT.replace("rounds = 2", "rounds = 1"))
    sites["c"] = write_site(tmp_path / "sites" / "c", 20, seed=5)
    del sites["one"]
    cells = leave_one_site_out(file, sites, tmp_path / "out")
    assert [c.site for c in cells] == ["a", "b", "c"]
    assert all(c.auroc is not None for c in cells)
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/model.safetensors")}
    assert len(done) == 3
    assert leave_one_site_out(file, sites, tmp_path / "out") == cells
    assert done == {p: p.stat().st_mtime_ns for p in done}
    written = json.loads((tmp_path / "out" / "leave-one-site-out.json").read_text())
    assert [c["auroc"] for c in written["cells"]] == [c.auroc for c in cells]
    assert written["new_site"] == {"label": None}, "three sites are too few for a prediction"
    with pytest.raises(Refused, match="at least two must be left"):
        leave_one_site_out(file, {"a": sites["a"], "b": sites["b"]}, tmp_path / "few")


def test_what_to_expect_elsewhere_is_the_meta_analysis_of_the_sites_left_out():
    cells = [
        Cell(model="global", site=f"s{i}", outcome="y", auroc=a, ci=(a - 0.1, a + 0.08))
        for i, a in enumerate((0.6, 0.7, 0.75, 0.8, 0.85))
    ]
    predicted = auroc_at_new_site(cells, "y", 0.95)
    assert predicted is not None
    assert predicted.prediction[0] < 0.6 < predicted.mean < 0.85 < predicted.prediction[1]
    assert auroc_at_new_site(cells[:3], "y", 0.95) is None


# Folds


def test_every_patient_is_tested_once_and_each_site_releases_once_over_all_folds(sites, tmp_path):
    file = tmp_path / "experiment.toml"
    file.write_text(with_(EXPERIMENT.replace("rounds = 2", "rounds = 1"), folds="3"))
    summary = cross_validate(file, sites, tmp_path / "out")
    assert summary.status == "completed"
    plan = read_experiment(file)[0]
    cell = next(c for c in summary.cells if (c.model, c.site) == ("global", "a"))
    states = tmp_path / "out" / "sites"
    aurocs, tested = [], []
    for fold in range(3):
        text = (tmp_path / "out" / f"fold-{fold:03}" / "experiment.toml").read_text()
        site = Participant(
            SiteData(open_site(sites["a"], state=states / "a"), parse_experiment(text))
        )
        assert site.data.experiment.family == plan.family
        assert site.data.experiment.evaluation_sha256 == summary.evaluation_sha256
        logits = Scoring(site).score_store.read("test", "global", site.data.keys("test"))
        aurocs.append(roc_auc_score(site.data.parts["test"].labels[:, 0], logits[:, 0]))
        tested += site.data.keys("test")
        parts = [set(site.data.keys(part)) for part in ("train", "validation", "test")]
        assert sum(map(len, parts)) == 40 == len(set.union(*parts))
        assert len(parts[1]) == round(0.2 * (40 - len(parts[2]))) or len(parts[1]) > 0
    assert len(tested) == len(set(tested)) == 40
    assert cell.auroc == pytest.approx(np.mean(aurocs), abs=0.005)
    assert cell.folds == pytest.approx(aurocs, abs=0.05)
    assert (cell.positives, cell.negatives) == (20, 20)
    assert cell.ci[0] < cell.auroc < cell.ci[1]
    released = [
        e
        for e in Ledger(states / "a" / "ledger.jsonl").entries()
        if e["message"]["kind"] == "release"
    ]
    assert len(released) == 1, "histograms of no fold, figures of all"
    overall = next(o for o in summary.overall if o.model == "global")
    assert overall.within is not None
    assert overall.folds_sd is not None
    assert any(c.site is None and c.difference is not None for c in summary.comparisons)
    assert (tmp_path / "out" / "report.html").is_file()


def test_finished_folds_are_not_run_again_when_a_cross_validation_resumes(
    sites, tmp_path, monkeypatch
):
    del sites["one"]
    file = tmp_path / "experiment.toml"
    text = EXPERIMENT.replace("rounds = 2", "rounds = 1")
    file.write_text(with_(text, folds="2", local_baseline="false"))
    with monkeypatch.context() as patched:
        real, count = cross_validation.run_or_resume, []

        def second_fails(*arguments):
            count.append(1)
            if len(count) == 2:
                raise KeyboardInterrupt
            return real(*arguments)

        patched.setattr(cross_validation, "run_or_resume", second_fails)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(file, sites, tmp_path / "out")
    model = tmp_path / "out" / "fold-000" / "model.safetensors"
    first = model.stat().st_mtime_ns
    summary = cross_validate(file, sites, tmp_path / "out")
    assert model.stat().st_mtime_ns == first
    whole = cross_validate(file, sites, tmp_path / "undisturbed")
    assert (summary.cells, summary.overall) == (whole.cells, whole.overall)


def folds_of(rng: np.random.Generator, number: int, positives: int, negatives: int):
    labels = np.repeat([1, 0], [positives, negatives]).astype(np.float32)
    patients = np.arange(number * len(labels)).reshape(number, -1)
    return [
        ScoredUnits(labels[:, None], patients[i], {"global": rng.normal(labels, 1)[:, None]})
        for i in range(number)
    ]


def test_the_variance_of_the_mean_of_folds_is_that_of_repeated_draws():
    rng = np.random.default_rng(4)
    drawn = []
    for _ in range(400):
        release = CrossValidation(["y"], Disclosure(1, 1), "local:a").exact(
            folds_of(rng, 5, 12, 20), [], ["global"], {}
        )
        drawn.append((release.scores[0].auroc, release.scores[0].variance))
    values = np.array(drawn)
    assert values[:, 1].mean() == pytest.approx(values[:, 0].var(), rel=0.2)
    one = folds_of(rng, 1, 30, 40)
    [alone] = (
        CrossValidation(["y"], Disclosure(1, 1), "local:a").exact(one, [], ["global"], {}).scores
    )
    units = Units(one[0].labels[:, 0])
    expected = variance(deviations(one[0].logits["global"][:, 0], units), units)
    assert alone.variance == pytest.approx(expected), "one fold is DeLong's"


def test_a_repeated_division_of_the_same_patients_adds_no_certainty():
    rng = np.random.default_rng(5)
    folds = folds_of(rng, 4, 12, 20)
    rule = CrossValidation(["y"], Disclosure(1, 1), "local:a")
    [once], [twice] = (
        rule.release(f, [], ["global"], {}).scores for f in (folds, [*folds, *folds])
    )
    assert twice.auroc == pytest.approx(once.auroc)
    assert twice.variance == pytest.approx(once.variance)
    assert (twice.positives, twice.negatives) == (once.positives, once.negatives)


def test_the_auroc_of_a_fold_is_released_only_if_it_and_the_others_have_enough_patients():
    rng = np.random.default_rng(6)
    rule = CrossValidation(["y"], Disclosure(10, 3), "local:a")
    small = folds_of(rng, 5, 4, 6)
    [scores] = rule.release(small, [], ["global"], {}).scores
    assert scores.auroc is not None, "20 positives and 30 negatives in all"
    assert scores.folds == [None] * 5
    mixed = [*folds_of(rng, 3, 15, 20), folds_of(rng, 1, 5, 20)[0]]
    [scores] = rule.release(mixed, [], ["global"], {}).scores
    assert [f is None for f in scores.folds].count(True) == 2, "one alone could be subtracted"
    few = folds_of(rng, 3, 2, 10)
    [scores] = rule.release(few, [], ["global"], {}).scores
    assert scores.missing == "below minimum"
