"""Models compared at the sites, groups of patients, and choices that no test patient touches."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import EXPERIMENT, write_cohort, write_site
from PIL import Image
from random_federations import SiteScores, federation
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from fedrad.client.disclosure import Disclosure
from fedrad.client.evaluation import Evaluation, Scored
from fedrad.client.figures import Units, deviations, variance
from fedrad.client.folds import CrossValidation
from fedrad.client.ledger import Ledger
from fedrad.client.participant import Participant
from fedrad.client.scoring import Scoring
from fedrad.client.settings import open_site
from fedrad.deploy import cross_validate as cross_validation
from fedrad.deploy.cross_validate import cross_validate
from fedrad.deploy.leave_out import expected, leave_one_site_out
from fedrad.deploy.simulation import Refused, prepare, simulate
from fedrad.exchange.experiment import (
    Experiment,
    ExperimentError,
    group_names,
    parse_experiment,
    read_experiment,
)
from fedrad.exchange.messages import ReleaseRequest, ScoreRequest
from fedrad.exchange.update import pack
from fedrad.models.network import stage_tensors
from fedrad.server.summary import Cell, read_summary


def run(text: str, sites: dict[str, Path], folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.toml").write_text(text)
    return simulate(prepare(folder / "experiment.toml", sites, folder / "out"))


def with_(text: str, **evaluation: str) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in evaluation.items())
    return text.replace("[evaluation]\n", f"[evaluation]\n{lines}")


# Two models on the same patients


def test_the_paired_variance_is_delongs_by_brute_force():
    rng = np.random.default_rng(1)
    labels = np.repeat([1, 0], [25, 40]).astype(np.float32)
    shared = rng.normal(size=65) + labels
    one, two = shared + rng.normal(size=65) * 0.5, shared + rng.normal(size=65)

    def placements(z):
        kernel = (z[labels == 1][:, None] > z[labels == 0]).astype(float)
        return kernel.mean(1), kernel.mean(0)

    (p1, n1), (p2, n2) = placements(one), placements(two)
    expected = (p1 - p2).var(ddof=1) / 25 + (n1 - n2).var(ddof=1) / 40
    units = Units(labels)
    found = variance(deviations(one, units) - deviations(two, units), units)
    assert found == pytest.approx(expected)
    unpaired = variance(deviations(one, units), units) + variance(deviations(two, units), units)
    assert found < unpaired, "both models see the same patients"


def test_a_site_sends_the_difference_of_its_models_and_nothing_of_single_patients():
    rng = np.random.default_rng(2)
    labels = np.repeat([1, 0], [20, 30]).astype(np.float32)
    logits = {m: rng.normal(size=(50, 1)) + labels[:, None] for m in ("global", "local:a", "base")}
    logits["base"][:] = np.nan  # the base has no output for this outcome
    plan = Experiment(name="x", outcomes=["y"])
    units, rule = Scored(labels[:, None], None, logits), Disclosure(10, 3)
    sent = Evaluation(plan, rule, "local:a").comparisons(units, ["base", "local:a", "global"])
    assert [(c.other, c.missing) for c in sent] == [("local:a", None), ("base", "not run")]
    own, alone = (roc_auc_score(labels, logits[m][:, 0]) for m in ("global", "local:a"))
    assert sent[0].difference == pytest.approx(own - alone)
    few = Scored(labels[12:, None], None, {m: z[12:] for m, z in logits.items()})
    sent = Evaluation(plan, rule, "local:a").comparisons(few, ["local:a", "global"])
    assert (sent[0].missing, sent[0].difference) == ("below minimum", None)


def test_was_it_worth_joining(experiment_file, sites, tmp_path):
    summary = run(EXPERIMENT, sites, tmp_path / "x")
    at = {(c.site, c.other.partition(":")[0]): c for c in summary.comparisons}
    cells = {(c.model, c.site): c for c in summary.cells}
    for name in "ab":
        both = cells[("global", name)].auroc - cells[(f"local:{name}", name)].auroc
        assert at[(name, "local")].difference == pytest.approx(both)
        assert at[(name, "base")].missing == "not run"
    pairs = {n: cells[("global", n)].positives * cells[("global", n)].negatives for n in "ab"}
    mean = sum(pairs[n] * at[(n, "local")].difference for n in "ab") / sum(pairs.values())
    assert at[(None, "local")].difference == pytest.approx(mean)
    assert (at[(None, "local")].tests, at[("a", "local")].tests) == (1, 2)
    assert at[("one", "local")].missing in ("one class", "not run")
    assert at[("a", "local")].p_holm >= at[("a", "local")].p


# Local-only models at other sites


def allow(folder: Path, *what: str) -> None:
    with (folder / "site.toml").open("a") as file:
        file.writelines(f"{name} = true\n" for name in what)


def test_local_models_travel_where_both_sites_agree_and_nowhere_else(sites, tmp_path):
    sites["c"] = write_site(tmp_path / "sites" / "c", 30, seed=5)
    allow(sites["a"], "share_local_model")
    allow(sites["b"], "test_other_models")
    summary = run(with_(EXPERIMENT, travel="true"), sites, tmp_path / "x")
    cells = {(c.model, c.site): c for c in summary.cells}
    assert cells[("local:a", "b")].auroc is not None, "a shares, b tests"
    assert cells[("local:a", "b")].calibration_curve == [], "a guest's scores are not laid out"
    assert cells[("local:a", "c")].missing == "declined", "c does not test"
    assert cells[("local:b", "a")].missing == "declined", "b does not share"
    assert cells[("local:c", "b")].missing == "declined", "c does not share"
    assert cells[("local:one", "b")].missing == "one class", "there is no such model"
    assert cells[("local:a", "a")].auroc is not None
    out = tmp_path / "x" / "out"
    sent = {s: Ledger(out / "sites" / s / "ledger.jsonl").entries() for s in sites}
    travelled = {
        s: e["tensor_bytes"] for s in "abc" for e in sent[s] if e["message"]["kind"] == "baseline"
    }
    assert travelled["a"] > 0
    assert travelled["b"] == travelled["c"] == 0


def test_a_traveller_scores_there_as_its_own_site_would(sites, tmp_path):
    del sites["one"]
    allow(sites["a"], "share_local_model")
    allow(sites["b"], "test_other_models")
    summary = run(with_(EXPERIMENT, travel="true"), sites, tmp_path / "x")
    kept = tmp_path / "x" / "out" / "sites"
    plan = parse_experiment(with_(EXPERIMENT, travel="true"))
    host = Participant(open_site(sites["b"], state=kept / "b"), plan)
    guest = Participant(open_site(sites["a"], state=kept / "a"), plan)
    request = ScoreRequest(part="test", model="local")
    assert len(host.parts["test"]) == 12, "b's patients, to be looked at with a's own file"
    host.site = guest.site
    host.folder = guest.folder
    scoring = Scoring(host)
    scoring.score(request, None)
    logits = scoring.scored.read("test", "local:a", host.keys("test"))
    labels = host.parts["test"].labels[:, 0]
    cell = next(c for c in summary.cells if (c.model, c.site) == ("local:a", "b"))
    assert cell.auroc == roc_auc_score(labels, logits[:, 0])


def test_no_local_model_travels_unasked(sites, tmp_path):
    for folder in sites.values():
        allow(folder, "share_local_model", "test_other_models")
    summary = run(EXPERIMENT, sites, tmp_path / "x")
    assert {c.site for c in summary.cells if c.model == "local:a"} == {"a"}
    ledger = Ledger(tmp_path / "x" / "out" / "sites" / "a" / "ledger.jsonl").entries()
    assert all(
        e["tensor_bytes"] == 0 for e in ledger if e["message"]["kind"] == "baseline"
    )  # fmt: skip


# Groups


def test_subgroups_are_looked_at_where_counts_permit(tmp_path):
    rng = np.random.default_rng(3)
    sites = {n: write_site(tmp_path / n, 60, seed=i) for i, n in enumerate("ab", 1)}
    for folder in sites.values():
        with (folder / "cohort.csv").open() as file:
            rows = [
                {**row, "sex": "FM"[i % 2], "age": f"{rng.uniform(0, 3):.2f}"}
                for i, row in enumerate(csv.DictReader(file))
            ]
        write_cohort(folder, rows)
    text = with_(EXPERIMENT, subgroups='{ sex = ["F", "M"], age = [2.9] }')
    summary = run(text, sites, tmp_path / "x")
    found = {(s.column, s.group, s.site): s for s in summary.subgroups}
    assert found[("sex", "F", "a")].auroc is not None
    assert found[("sex", "M", None)].positives == sum(
        found[("sex", "M", n)].positives for n in "ab"
    )
    assert {found[("age", g, "a")].missing for g in ("< 2.9", "≥ 2.9")} == {"below minimum"}
    [gap] = summary.gaps
    assert {gap.highest, gap.lowest} == {"F", "M"}
    assert gap.gap >= 0
    assert gap.ci[0] < gap.gap < gap.ci[1]


def test_groups_have_names_for_people_and_impossible_ones_are_refused():
    assert group_names((1.0, 18.0)) == ["< 1", "1 to < 18", "≥ 18"]
    assert group_names(("F", "M")) == ["F", "M"]
    for wrong in ("{ age = [18, 1] }", '{ sex = ["F", "F"] }', "{ sex = [] }"):
        with pytest.raises(ExperimentError, match=r"evaluation\.subgroups"):
            parse_experiment(with_(EXPERIMENT, subgroups=wrong))


# Sites that are left out


def test_a_site_held_out_tests_all_its_patients_and_has_no_say(sites, tmp_path):
    sites["c"] = write_site(tmp_path / "sites" / "c", 20, seed=5)
    summary = run(with_(EXPERIMENT, held_out='["c"]'), sites, tmp_path / "x")
    del sites["c"]
    without = run(EXPERIMENT, sites, tmp_path / "y")
    cells = {(c.model, c.site): c for c in summary.cells}
    assert (cells[("global", "c")].positives, cells[("global", "c")].negatives) == (10, 10)
    assert cells[("local:c", "c")].missing == "held out"
    assert {r.sites["c"].status for r in summary.rounds} == {"evaluated"}
    assert summary.overall == without.overall, "nothing over sites knows of it"
    assert (summary.best, summary.calibration) == (without.best, without.calibration)
    [outside] = [o for o in summary.held_out if o.model == "global"]
    assert outside.within == cells[("global", "c")].auroc
    assert outside.sensitivity is not None
    report = (tmp_path / "x" / "out" / "report.html").read_text()
    assert "which took no part in training or choices" in report


def test_every_site_is_left_out_once_and_a_finished_run_is_not_run_again(sites, tmp_path):
    file = tmp_path / "experiment.toml"
    file.write_text(EXPERIMENT.replace("rounds = 2", "rounds = 1"))
    sites["c"] = write_site(tmp_path / "sites" / "c", 20, seed=5)
    del sites["one"]
    found = leave_one_site_out(file, sites, tmp_path / "out")
    assert [c.site for c in found] == ["a", "b", "c"]
    assert all(c.auroc is not None for c in found)
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/model.safetensors")}
    assert len(done) == 3
    assert leave_one_site_out(file, sites, tmp_path / "out") == found
    assert done == {p: p.stat().st_mtime_ns for p in done}
    written = json.loads((tmp_path / "out" / "leave-one-site-out.json").read_text())
    assert [c["auroc"] for c in written["cells"]] == [c.auroc for c in found]
    assert written["new_site"] == {"label": None}, "three sites foretell no fourth"
    with pytest.raises(Refused, match="at least two must be left"):
        leave_one_site_out(file, {"a": sites["a"], "b": sites["b"]}, tmp_path / "few")


def test_what_to_expect_elsewhere_is_the_meta_analysis_of_the_sites_left_out():
    cells = [
        Cell(model="global", site=f"s{i}", outcome="y", auroc=a, ci=(a - 0.1, a + 0.08))
        for i, a in enumerate((0.6, 0.7, 0.75, 0.8, 0.85))
    ]
    found = expected(cells, "y", 0.95)
    assert found is not None
    assert found.prediction[0] < 0.6 < found.mean < 0.85 < found.prediction[1]
    assert expected(cells[:3], "y", 0.95) is None


# Folds


def test_every_patient_is_tested_once_and_the_sites_speak_once_over_all_folds(sites, tmp_path):
    file = tmp_path / "experiment.toml"
    file.write_text(with_(EXPERIMENT.replace("rounds = 2", "rounds = 1"), folds="3"))
    summary = cross_validate(file, sites, tmp_path / "out")
    assert summary.status == "completed"
    plan = read_experiment(file)[0]
    cell = next(c for c in summary.cells if (c.model, c.site) == ("global", "a"))
    kept = tmp_path / "out" / "sites"
    aurocs, tested = [], []
    for fold in range(3):
        text = (tmp_path / "out" / f"fold-{fold:03}" / "experiment.toml").read_text()
        site = Participant(open_site(sites["a"], state=kept / "a"), parse_experiment(text))
        assert site.experiment.family == plan.family
        assert site.experiment.evaluation_sha256 == summary.evaluation_sha256
        logits = Scoring(site).scored.read("test", "global", site.keys("test"))
        aurocs.append(roc_auc_score(site.parts["test"].labels[:, 0], logits[:, 0]))
        tested += site.keys("test")
        parts = [set(site.keys(part)) for part in ("train", "validation", "test")]
        assert sum(map(len, parts)) == 40 == len(set.union(*parts))
        assert len(parts[1]) == round(0.2 * (40 - len(parts[2]))) or len(parts[1]) > 0
    assert len(tested) == len(set(tested)) == 40
    assert cell.auroc == pytest.approx(np.mean(aurocs))
    assert cell.folds == pytest.approx(aurocs)
    assert (cell.positives, cell.negatives) == (20, 20)
    assert cell.ci[0] < cell.auroc < cell.ci[1]
    released = [
        e
        for e in Ledger(kept / "a" / "ledger.jsonl").entries()
        if e["message"]["kind"] == "release"
    ]
    assert len(released) == 1, "histograms of no fold, figures of all"
    overall = next(o for o in summary.overall if o.model == "global")
    assert overall.within is not None
    assert overall.folds_sd is not None
    assert any(c.site is None and c.difference is not None for c in summary.comparisons)
    assert (tmp_path / "out" / "report.html").is_file()


def test_finished_folds_stand_when_a_cross_validation_goes_on(sites, tmp_path, monkeypatch):
    del sites["one"]
    file = tmp_path / "experiment.toml"
    text = EXPERIMENT.replace("rounds = 2", "rounds = 1")
    file.write_text(with_(text, folds="2", local_baseline="false"))
    with monkeypatch.context() as patched:
        real, count = cross_validation.run, []

        def second_fails(*arguments):
            count.append(1)
            if len(count) == 2:
                raise KeyboardInterrupt
            return real(*arguments)

        patched.setattr(cross_validation, "run", second_fails)
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
        Scored(labels[:, None], patients[i], {"global": rng.normal(labels, 1)[:, None]})
        for i in range(number)
    ]


def test_the_variance_of_the_mean_of_folds_is_that_of_repeated_draws():
    rng = np.random.default_rng(4)
    drawn = []
    for _ in range(400):
        release = CrossValidation(["y"], Disclosure(1, 1), "local:a").release(
            folds_of(rng, 5, 12, 20), ["global"], {}
        )
        drawn.append((release.scores[0].auroc, release.scores[0].variance))
    values = np.array(drawn)
    assert values[:, 1].mean() == pytest.approx(values[:, 0].var(), rel=0.2)
    one = folds_of(rng, 1, 30, 40)
    [alone] = (
        CrossValidation(["y"], Disclosure(1, 1), "local:a").release(one, ["global"], {}).scores
    )
    units = Units(one[0].labels[:, 0])
    expected = variance(deviations(one[0].logits["global"][:, 0], units), units)
    assert alone.variance == pytest.approx(expected), "one fold is DeLong's"


def test_a_repeated_division_of_the_same_patients_adds_no_certainty():
    rng = np.random.default_rng(5)
    folds = folds_of(rng, 4, 12, 20)
    rule = CrossValidation(["y"], Disclosure(1, 1), "local:a")
    [once], [twice] = (rule.release(f, ["global"], {}).scores for f in (folds, [*folds, *folds]))
    assert twice.auroc == pytest.approx(once.auroc)
    assert twice.variance == pytest.approx(once.variance)
    assert (twice.positives, twice.negatives) == (once.positives, once.negatives)


def test_a_folds_own_auroc_is_told_only_where_it_and_what_is_left_hold_enough():
    rng = np.random.default_rng(6)
    rule = CrossValidation(["y"], Disclosure(10, 3), "local:a")
    small = folds_of(rng, 5, 4, 6)
    [found] = rule.release(small, ["global"], {}).scores
    assert found.auroc is not None, "20 positives and 30 negatives in all"
    assert found.folds == [None] * 5
    mixed = [*folds_of(rng, 3, 15, 20), folds_of(rng, 1, 5, 20)[0]]
    [found] = rule.release(mixed, ["global"], {}).scores
    assert [f is None for f in found.folds].count(True) == 2, "one alone could be subtracted"
    few = folds_of(rng, 3, 2, 10)
    [found] = rule.release(few, ["global"], {}).scores
    assert found.missing == "below minimum"


# What validation patients decide


def divided_site(folder: Path, patients: int, seed: int, *, other_tests: bool) -> Path:
    """A site whose table divides it; with `other_tests` its test patients are quite others."""
    write_site(folder, patients, seed=seed)
    with (folder / "cohort.csv").open() as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(seed)
    for i, row in enumerate(rows):
        row["split"] = ("test", "train", "validation", "train", "train")[i % 5]
        if row["split"] == "test" and other_tests:
            row["label"] = str(1 - int(row["label"]))
            picture = rng.integers(0, 255, (48, 40)).astype(np.uint8)
            Image.fromarray(picture).save(folder / row["file"])
    write_cohort(folder, rows)
    return folder


def test_no_path_leads_from_a_test_patient_to_any_choice(hospitals, tmp_path):
    """Two federations that differ in the images and outcomes of every test patient and in nothing
    else choose the same: mixture, best round, threshold, calibration and weights, to the bit."""
    base = hospitals.run(1)
    more = {
        "grid": ("minimum_units = 3", "minimum_units = 3\nensemble = [0.0, 0.4, 0.8]"),
        "rounds": ("rounds = 1", "rounds = 3"),
    }
    outs = []
    for number, other in ((2, False), (3, True)):
        sites = {
            name: divided_site(tmp_path / f"of-{number}" / name, 45, seed, other_tests=other)
            for name, seed in (("c", 11), ("d", 12))
        }
        state = tmp_path / f"state-{number}"
        outs.append(hospitals.run(number, base=base, sites=sites, state=state, **more))
    one, two = (read_summary(out) for out in outs)
    assert one.ensemble == two.ensemble
    assert one.best == two.best
    assert one.calibration == two.calibration
    thresholds = [{o.model: o.threshold for o in s.overall} for s in (one, two)]
    assert thresholds[0] == thresholds[1]
    weights = [load_file(out / "model.safetensors") for out in outs]
    assert all((weights[0][k] == weights[1][k]).all() for k in weights[0])
    assert [r.sites for r in one.rounds] != [], "and so is every round's monitoring"
    for a, b in zip(one.rounds, two.rounds, strict=True):
        assert {s: x.auroc for s, x in a.sites.items()} == {s: x.auroc for s, x in b.sites.items()}
    figures = [{(c.model, c.site): c.auroc for c in s.cells} for s in (one, two)]
    assert figures[0] != figures[1], "while the figures on test patients do differ"


class NoTestPatients(dict):
    """Parts of a site in which reaching for the test patients is an error."""

    def __getitem__(self, part):
        assert part != "test", "a test patient was reached for"
        return super().__getitem__(part)


def test_all_that_is_asked_before_the_test_can_be_answered_without_test_patients(tmp_path):
    site = Participant(
        open_site(write_site(tmp_path / "a", 40, seed=1), state=tmp_path / "state"),
        parse_experiment(EXPERIMENT),
    )
    site.ready()
    site.parts = NoTestPatients(site.parts)
    net, stage = site.base.network, site.schedule.last_stage
    manifest, flat = pack(
        {k: v.numpy() for k, v in net.state_dict().items()},
        stage_tensors(net, stage, site.experiment.recipe),
        round_=site.schedule.rounds, stage=stage, base_sha256=site.base.digest,
    )  # fmt: skip
    Scoring(site).score(ScoreRequest(part="validation", model="global", manifest=manifest), flat)
    sent = Scoring(site).release(ReleaseRequest(part="validation", models=["global"]))
    assert sent.scores[0].histogram is not None
    with pytest.raises(AssertionError, match="reached for"):
        Scoring(site).score(ScoreRequest(part="test", model="global", manifest=manifest), flat)


def test_the_best_round_is_tested_too_where_it_is_not_the_last(sites, tmp_path):
    fast = "3e-3, backbone = 3e-3", "0.3, backbone = 0.3"
    text = EXPERIMENT.replace("rounds = 2", "rounds = 4").replace(*fast)
    summary = run(text, sites, tmp_path / "x")
    entered = [r.sites["a"].auroc["label"] for r in summary.rounds]  # the others withhold
    assert summary.best is not None
    if summary.best.final:
        assert summary.best.auroc >= max(entered)
        assert "best" not in summary.models
    else:
        assert summary.best.auroc == pytest.approx(max(entered))
        assert summary.best.round == max(i for i, v in enumerate(entered) if v == max(entered))
        assert {c.site for c in summary.cells if c.model == "best"} == set(sites)


def test_a_second_question_about_the_same_patients_is_refused(sites, tmp_path):
    run(EXPERIMENT, sites, tmp_path / "x")
    kept = tmp_path / "x" / "out" / "sites" / "a"
    site = Participant(open_site(sites["a"], state=kept), parse_experiment(EXPERIMENT))
    said = json.loads((site.folder / "released" / "test.json").read_text().split("\n")[1])
    assert {s["model"] for s in said["scores"]} >= {"global", "local:a"}
    with pytest.raises(Exception, match="released for this experiment already"):
        Scoring(site).release(ReleaseRequest(part="test", models=["global"]))


def test_a_random_site_is_what_it_says() -> None:
    assert isinstance(federation(1)["s00"], SiteScores)
