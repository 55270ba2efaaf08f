"""Comparisons of models, groups of patients, and choices without test patients."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from support.hospital import EXPERIMENT, run, with_, with_sites, write_cohort, write_site

from fedrad.client.figures.disclosure import Disclosure
from fedrad.client.figures.one_split import OneSplit
from fedrad.client.figures.scored_units import ScoredUnits
from fedrad.client.participant.participant import Participant
from fedrad.client.participant.scoring import Scoring
from fedrad.client.participant.site_data import SiteData
from fedrad.client.policy.ledger import Ledger
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import ExperimentError, group_names, parse_experiment
from fedrad.exchange.messages import ReleaseRequest, ScoreRequest
from fedrad.exchange.update import pack
from fedrad.models.network import stage_tensors
from fedrad.server.results.summary import read_summary
from fedrad.stats.exact import Units, deviations, variance

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
    paired = variance(deviations(one, units) - deviations(two, units), units)
    assert paired == pytest.approx(expected)
    unpaired = variance(deviations(one, units), units) + variance(deviations(two, units), units)
    assert paired < unpaired, "both models see the same patients"


def test_a_site_releases_the_difference_of_its_models():
    rng = np.random.default_rng(2)
    labels = np.repeat([1, 0], [20, 30]).astype(np.float32)
    logits = {m: rng.normal(size=(50, 1)) + labels[:, None] for m in ("global", "local:a", "base")}
    logits["base"][:] = np.nan  # the base has no output for this outcome
    units, rule = ScoredUnits(labels[:, None], None, logits), Disclosure(10, 3)
    split = OneSplit(["y"], rule, "local:a", {}, "test", {})
    sent = split.comparisons([units], ["base", "local:a", "global"])
    assert [(c.other, c.missing) for c in sent] == [("local:a", None), ("base", "not run")]
    own, alone = (roc_auc_score(labels, logits[m][:, 0]) for m in ("global", "local:a"))
    assert sent[0].difference == pytest.approx(own - alone)
    few = ScoredUnits(labels[12:, None], None, {m: z[12:] for m, z in logits.items()})
    sent = split.comparisons([few], ["local:a", "global"])
    assert (sent[0].missing, sent[0].difference) == ("below minimum", None)


def test_the_global_model_is_compared_with_the_local_only_models(experiment_file, sites, tmp_path):
    summary = run(EXPERIMENT, sites, tmp_path / "x")
    at = {(c.site, c.other.partition(":")[0]): c for c in summary.comparisons}
    cells = {(c.model, c.site): c for c in summary.cells}
    for name in "ab":
        both = cells[("global", name)].auroc - cells[(f"local:{name}", name)].auroc
        assert at[(name, "local")].difference == pytest.approx(both, abs=0.015), "each is rounded"
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


def test_local_only_models_are_sent_only_where_both_sites_agree(sites, tmp_path):
    sites["c"] = write_site(tmp_path / "sites" / "c", 30, seed=5)
    allow(sites["a"], "share_local_model")
    allow(sites["b"], "test_other_models")
    summary = run(with_sites(with_(EXPERIMENT, travel="true"), *sites), sites, tmp_path / "x")
    cells = {(c.model, c.site): c for c in summary.cells}
    assert cells[("local:a", "b")].auroc is not None, "a shares, b tests"
    assert cells[("local:a", "b")].calibration_curve == [], "no histogram of another site's model"
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


def test_another_sites_model_gets_the_scores_that_its_own_site_would_compute(sites, tmp_path):
    del sites["one"]
    allow(sites["a"], "share_local_model")
    allow(sites["b"], "test_other_models")
    summary = run(with_sites(with_(EXPERIMENT, travel="true"), *sites), sites, tmp_path / "x")
    states = tmp_path / "x" / "out" / "sites"
    plan = parse_experiment(with_sites(with_(EXPERIMENT, travel="true"), *sites))
    host = Participant(SiteData(open_site(sites["b"], state=states / "b"), plan))
    guest = Participant(SiteData(open_site(sites["a"], state=states / "a"), plan))
    request = ScoreRequest(part="test", model="local")
    assert len(host.data.parts["test"]) == 12, (
        "b's patients, to be scored with a's local-only model"
    )
    host.data.site = guest.data.site
    host.data.folder = guest.data.folder
    scoring = Scoring(host)
    scoring.score(request, None)
    logits = scoring.score_store.read("test", "local:a", host.data.keys("test"))
    labels = host.data.parts["test"].labels[:, 0]
    cell = next(c for c in summary.cells if (c.model, c.site) == ("local:a", "b"))
    assert cell.auroc == pytest.approx(roc_auc_score(labels, logits[:, 0]), abs=0.005)


def test_no_local_only_model_is_sent_without_a_request(sites, tmp_path):
    for folder in sites.values():
        allow(folder, "share_local_model", "test_other_models")
    summary = run(EXPERIMENT, sites, tmp_path / "x")
    assert {c.site for c in summary.cells if c.model == "local:a"} == {"a"}
    ledger = Ledger(tmp_path / "x" / "out" / "sites" / "a" / "ledger.jsonl").entries()
    assert all(e["tensor_bytes"] == 0 for e in ledger if e["message"]["kind"] == "baseline")


# Groups


def test_subgroups_are_evaluated_if_counts_allow_it(tmp_path):
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
    figures = {(s.column, s.group, s.site): s for s in summary.subgroups}
    assert figures[("sex", "F", "a")].auroc is not None
    assert figures[("sex", "M", None)].positives == sum(
        figures[("sex", "M", n)].positives for n in "ab"
    )
    assert {figures[("age", g, "a")].missing for g in ("< 2.9", "≥ 2.9")} == {"below minimum"}
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


# Choices on validation patients


def divided_site(folder: Path, patients: int, seed: int, *, other_tests: bool) -> Path:
    """A site whose table divides its patients; `other_tests` changes its test patients."""
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


def test_no_choice_depends_on_a_test_patient(hospitals, tmp_path):
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
    """Parts of a site in which access to the test patients is an error."""

    def __getitem__(self, part):
        assert part != "test", "access to test patients"
        return super().__getitem__(part)


def test_requests_before_the_test_are_answered_without_test_patients(tmp_path):
    site = Participant(
        SiteData(
            open_site(write_site(tmp_path / "a", 40, seed=1), state=tmp_path / "state"),
            parse_experiment(EXPERIMENT),
        )
    )
    site.ready()
    site.data.parts = NoTestPatients(site.data.parts)
    net, stage = site.data.base.network, site.data.schedule.last_stage
    manifest, flat = pack(
        {k: v.numpy() for k, v in net.state_dict().items()},
        stage_tensors(net, stage, site.data.experiment.recipe),
        round_=site.data.schedule.rounds,
        stage=stage,
        base_sha256=site.data.base.digest,
    )
    Scoring(site).score(ScoreRequest(part="validation", model="global", manifest=manifest), flat)
    sent = Scoring(site).release(ReleaseRequest(part="validation", models=["global"]))
    assert sent.scores[0].histogram is not None
    with pytest.raises(AssertionError, match="access to test patients"):
        Scoring(site).score(ScoreRequest(part="test", model="global", manifest=manifest), flat)


def test_the_best_round_is_tested_too_where_it_is_not_the_last(sites, tmp_path):
    fast = "3e-3, backbone = 3e-3", "0.3, backbone = 0.3"
    text = EXPERIMENT.replace("rounds = 2", "rounds = 4").replace(*fast)
    summary = run(text, sites, tmp_path / "x")
    entered = [r.sites["a"].auroc["label"] for r in summary.rounds]  # the others withhold
    assert summary.best is not None
    coarse = 0.11  # figures of rounds may be rounded, those of the release more finely
    if summary.best.final:
        assert summary.best.auroc >= max(entered) - coarse
        assert "best" not in summary.models
    else:
        assert summary.best.auroc == pytest.approx(max(entered), abs=coarse)
        assert summary.best.round == max(i for i, v in enumerate(entered) if v == max(entered))
        assert {c.site for c in summary.cells if c.model == "best"} == set(sites)
