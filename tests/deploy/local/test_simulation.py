"""A small federation in one process: repeatable, private, and with a record of every site."""

import json
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from support.hospital import EXPERIMENT, write_cohort, write_site

from fedrad.client.app import app as client_app
from fedrad.client.participant.site_data import SiteData
from fedrad.client.policy.ledger import Ledger
from fedrad.client.settings import open_site
from fedrad.deploy.local.simulation import prepare, simulate
from fedrad.deploy.refused import Refused
from fedrad.exchange.experiment import FederationSettings, parse_experiment
from fedrad.exchange.messages import RoundReply, from_record, to_record
from fedrad.exchange.update import pack, unflatten, unpack
from fedrad.flower.grid import InProcessGrid
from fedrad.models.training import score
from fedrad.server.experiment import run_experiment
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.server.federation.records import Records
from fedrad.server.results.summary import SiteRound, read_summary
from fedrad.server.rounds.spool import SpooledUpdate
from fedrad.server.rounds.strategies import strategy_of

GOLDEN = {"a": [1.2213, 0.9623], "b": [1.1316, 0.6476], "within": 0.4848}
"""Training losses per round and the global model's within-site AUROC, torch 2.15 on x86-64."""


@pytest.fixture
def done(experiment_file, sites, tmp_path):
    """A finished federation of two sites and a one-class site."""
    out = tmp_path / "out"
    return simulate(prepare(experiment_file, sites, out)), out


def test_a_federation_ends_with_all_its_files(done):
    summary, out = done
    assert summary.status == "completed"
    for name in (
        "experiment.toml",
        "records.sqlite",
        "summary.json",
        "report.html",
        "cells.csv",
        "rounds.csv",
        "model.safetensors",
    ):
        assert (out / name).is_file(), name
    assert read_summary(out) == summary
    assert not list((out / "checkpoint" / "spool").iterdir())
    with safe_open(out / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["outputs"]) == ["label"]
        assert file.metadata()["base_sha256"] == summary.provenance.base_sha256


def test_the_golden_figures_of_this_federation_are_unchanged(done):
    summary, _ = done
    losses = {s: [r.sites[s].loss for r in summary.rounds] for s in ("a", "b")}
    for site, values in losses.items():
        assert values == pytest.approx(GOLDEN[site], rel=0.02)
    within = next(o.within for o in summary.overall if o.model == "global")
    assert within == pytest.approx(GOLDEN["within"], abs=0.05)


def test_the_same_seed_and_data_give_the_same_bits(done, experiment_file, sites, tmp_path):
    summary, out = done
    again = simulate(prepare(experiment_file, sites, tmp_path / "again"))
    assert again.cells == summary.cells
    assert again.overall == summary.overall
    one = load_file(out / "model.safetensors")
    two = load_file(tmp_path / "again" / "model.safetensors")
    assert all((one[k] == two[k]).all() for k in one)


def test_the_released_auroc_is_that_of_the_model_on_the_sites_test_patients(done, sites):
    summary, out = done
    experiment = parse_experiment((out / "experiment.toml").read_text())
    for name in ("a", "b"):
        site = open_site(sites[name], state=out / "sites" / name)
        data = SiteData(site, experiment)
        network = data.base.network
        network.load_state_dict(load_file(out / "model.safetensors"))
        test = data.parts["test"]
        logits = score(network, test.images, device=data.device)[:, 0]
        cell = next(c for c in summary.cells if c.site == name and c.model == "global")
        assert cell.auroc == pytest.approx(roc_auc_score(test.labels[:, 0], logits), abs=0.05)
        assert cell.positives == test.labels.sum()


def test_a_site_with_one_class_only_evaluates_and_the_summary_names_it(
    experiment_file, sites, tmp_path
):
    with (sites["one"] / "site.toml").open("a") as file:
        file.write("minimum_bin = 1\n")  # otherwise there are too few patients for a threshold
    summary = simulate(prepare(experiment_file, sites, tmp_path / "out"))
    entry = summary.site_entries["one"]
    assert (entry.trains, entry.does_not_train_because) == (False, "one class")
    assert {r.sites["one"].status for r in summary.rounds} == {"evaluated"}
    cells = {c.model: c for c in summary.cells if c.site == "one"}
    assert (cells["global"].auroc, cells["global"].missing) == (None, "one class")
    assert cells["global"].decisions.sensitivity is not None
    assert cells["global"].decisions.specificity is None
    assert cells["local:one"].missing == "one class"
    pooled = next(o for o in summary.overall if o.model == "global")
    assert pooled.positives > sum(
        c.positives for c in summary.cells if c.model == "global" and c.site != "one"
    )


def test_a_site_with_one_class_trains_if_the_experiment_allows_it(experiment_file, sites, tmp_path):
    text = EXPERIMENT.replace("rounds = 2", "rounds = 2\ntrain_one_class = true")
    experiment_file.write_text(text)
    summary = simulate(prepare(experiment_file, sites, tmp_path / "out"))
    assert {r.sites["one"].status for r in summary.rounds} == {"ok"}


def test_nothing_of_a_patient_or_a_path_is_on_the_coordinators_side(done, sites, tmp_path):
    _, out = done
    forbidden = ["CANARY", str(tmp_path), "images/0001"]
    for file in out.rglob("*"):
        if file.is_file() and "sites" not in file.relative_to(out).parts:
            content = file.read_bytes()
            for word in forbidden:
                assert word.encode() not in content, (file, word)
    for name in sites:  # not even in the site's ledger of its messages
        assert "CANARY" not in (out / "sites" / name / "ledger.jsonl").read_text()


def test_every_message_out_is_in_the_sites_ledger(done):
    summary, out = done
    ledger = Ledger(out / "sites" / "a" / "ledger.jsonl")
    kinds = [e["message"]["kind"] for e in ledger.entries()]
    rounds = ["round"] * len(summary.rounds)
    models = ["base", "local", "global", *(["best"] if "best" in summary.models else [])]
    assert kinds == [
        "readiness",
        *rounds,
        "baseline",
        *["scored"] * 4,  # the best model of the rounds is compared with the final one
        "release",
        *["scored"] * len(models),
        "release",
    ]
    lines = ledger.path.read_text().splitlines()
    ledger.path.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match="line 2: changed, or a line before it removed"):
        ledger.entries()


def test_figures_of_few_patients_stay_at_the_site(experiment_file, sites, tmp_path):
    for folder in sites.values():
        toml = (folder / "site.toml").read_text().replace("minimum_units = 3", "minimum_units = 6")
        (folder / "site.toml").write_text(toml)
    summary = simulate(prepare(experiment_file, sites, tmp_path / "out"))
    cells = {c.site: c for c in summary.cells if c.model == "global"}
    assert (cells["a"].positives, cells["a"].negatives) == (8, 8)
    assert cells["b"].missing == "below minimum", "5 and 7 of its 30 patients are for testing"
    assert (cells["b"].positives, cells["b"].auroc) == (None, None)
    assert summary.site_entries["b"].units["test"]["label"] == (None, None)
    assert all(r.sites["b"].auroc["label"] is None for r in summary.rounds)


def test_the_records_hold_each_sites_figures_per_round(done):
    summary, out = done
    records = Records(out / "records.sqlite")
    rows = {(r.round, r.site, r.metric): r for r in records.all()}
    records.close()
    assert rows[(1, "a", "loss")].value == summary.rounds[0].sites["a"].loss
    assert rows[(2, "one", "status")].text == "evaluated"


def test_the_averaged_model_is_the_mean_of_the_updates_weighted_by_units(tmp_path):
    rng = np.random.default_rng(0)
    tensors = [
        {
            "x.weight": rng.normal(size=(3, 2)),
            "bn.running_mean": rng.normal(size=4),
            "bn.running_var": rng.random(4),
        }
        for _ in range(3)
    ]
    spooled = {}
    weights = [5, 1, 3]
    for i, t in enumerate(tensors):
        manifest, packed = pack(t, list(t), round_=0, stage="probe", base_sha256="b" * 64)
        np.save(tmp_path / f"{i}.npy", unpack(manifest, packed))
        spooled[str(i)] = SpooledUpdate(tmp_path / f"{i}.npy", weights[i], SiteRound(status="ok"))
    combined = strategy_of(FederationSettings()).combine(spooled, manifest)
    averaged = unflatten(manifest, combined)
    share = np.array(weights) / 9
    for name in ("x.weight", "bn.running_mean"):
        expected = sum(w * t[name] for w, t in zip(share, tensors, strict=True))
        np.testing.assert_allclose(averaged[name], expected, rtol=1e-6)
    # The pooled variance is that of the mixture: draw a large sample of it.
    sample = np.concatenate(
        [
            rng.normal(t["bn.running_mean"], t["bn.running_var"] ** 0.5, (60_000 * w, 4))
            for w, t in zip(weights, tensors, strict=True)
        ]
    )
    np.testing.assert_allclose(averaged["bn.running_var"], sample.var(0), rtol=0.02)


class Tampering(InProcessGrid):
    """A grid that changes the reply of the second site to a round."""

    change = staticmethod(lambda reply, flat: (reply, flat))

    def pull_messages(self, message_ids):
        replies = list(super().pull_messages(message_ids))
        for reply in replies:
            about = reply.metadata
            if about.message_type == "train.round" and about.src_node_id == 2:
                sent, packed = from_record(reply.content, RoundReply)
                flat = packed.view(np.float32)  # as it was sent, without encoding
                reply.content = to_record(*self.change(sent, flat))
        return replies


def repacked(reply: RoundReply, flat: np.ndarray, **what):
    """The reply with another array and its hash, and with changes to the manifest."""
    packed = flat.astype(np.float32).view(np.uint8)
    fields = {"sha256": sha256(packed.tobytes()).hexdigest()} | what
    manifest = reply.manifest.model_copy(update=fields)
    return reply.model_copy(update={"manifest": manifest}), packed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r, f: repacked(r, np.where(np.arange(f.size) == 3, np.nan, f)), "not finite"),
        (lambda r, f: repacked(r, f, names=r.manifest.names[::-1]), "their order"),
        (lambda r, f: repacked(r, f[:-1]), "expected uint8"),
        (lambda r, f: repacked(r, f, sha256="0" * 64), "SHA-256"),
        (lambda r, f: repacked(r, f, round=9), "round is 9"),
        (lambda r, _: (r, None), "without its tensors"),
        (lambda r, f: repacked(r.model_copy(update={"images": 0}), f), "trained on no image"),
    ],
)
def test_an_unsound_update_is_rejected_and_its_site_named(
    experiment_file, sites, tmp_path, change, words
):
    simulation = prepare(experiment_file, sites, tmp_path / "out")
    grid = Tampering(client_app, simulation.nodes, {"experiment": simulation.text})
    grid.change = change
    with pytest.raises(ExperimentFailed, match="round 1: 1 sound updates, the quorum is 2"):
        run_experiment(grid, simulation.text, tmp_path / "out", wait_seconds=0)
    summary = read_summary(tmp_path / "out")
    assert summary.status == "failed"
    assert re.search(rf"b: update rejected: .*{words}", summary.why)
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_fault_at_a_site_reaches_the_coordinator_as_one_word(experiment_file, sites, tmp_path):
    simulation = prepare(experiment_file, sites, tmp_path / "out")
    (sites["b"] / "cohort.csv").unlink()
    summary_error = "no quorum: 2 training sites are needed, 1 can"
    with pytest.raises(ExperimentFailed, match=summary_error) as failure:
        simulate(simulation)
    assert "the site's cohort cannot be used" in str(failure.value)
    assert str(tmp_path) not in str(failure.value)
    log = (tmp_path / "out" / "sites" / "b" / "site.log").read_text()
    assert str(sites["b"] / "cohort.csv") in log, "the log of the site names the file"


def refused(experiment_file: Path, sites: dict[str, Path], out: Path) -> str:
    with pytest.raises(Refused) as error:
        prepare(experiment_file, sites, out)
    assert not (out / "summary.json").exists()
    return error.value.for_command()


def test_all_faults_are_reported_together_before_any_work(experiment_file, sites, tmp_path):
    (tmp_path / "empty").mkdir()
    write_cohort(sites["a"], [{"file": "images/0000.png", "patient_id": "p", "bpd": 1}])
    write_cohort(sites["b"], [{"file": "images/0000.png", "patient_id": "p", "label": "maybe"}])
    given = {**sites, "gone": tmp_path / "gone", "empty": tmp_path / "empty"}
    text = refused(experiment_file, given, tmp_path / "out")
    assert "--site a:" in text
    assert "no outcome column 'label'" in text
    assert "label = 'maybe'; allowed are 0, 1 and empty" in text
    assert f"{tmp_path / 'gone'}: no such folder" in text
    assert "--site empty:" in text


def test_an_output_folder_with_an_experiment_is_refused(done, experiment_file, sites):
    _, out = done
    with pytest.raises(Refused, match="holds an experiment already"):
        prepare(experiment_file, sites, out)
    grid = InProcessGrid(client_app, [], {})
    with pytest.raises(ExperimentFailed, match="holds an experiment already"):
        run_experiment(grid, EXPERIMENT, out, wait_seconds=0)


def test_an_output_folder_that_cannot_be_made_is_refused(experiment_file, sites, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be made (Not a directory)" in refused(
        experiment_file, sites, tmp_path / "file" / "out"
    )


def test_a_quorum_above_the_number_of_sites_is_refused(experiment_file, sites, tmp_path):
    assert "federation.quorum = 2: more than the 1 sites" in refused(
        experiment_file, {"a": sites["a"]}, tmp_path / "out"
    )


def test_missing_weights_are_refused_with_the_place_to_put_them(experiment_file, sites, tmp_path):
    experiment_file.write_text(
        EXPERIMENT.replace('"random"', '"base.safetensors"\nsha256 = "' + "0" * 64 + '"')
    )
    text = refused(experiment_file, sites, tmp_path / "out")
    assert "put the file base.safetensors" in text
    assert str(tmp_path) in text


def test_a_site_with_many_broken_files_does_not_take_part(experiment_file, sites, tmp_path):
    simulation = prepare(experiment_file, sites, tmp_path / "out")
    for number in range(5):
        (sites["a"] / f"images/{number:04d}.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ExperimentFailed, match="more of the site's files are broken"):
        simulate(simulation)


def test_a_few_broken_files_are_set_aside_and_counted(tmp_path, experiment_file):
    sites = {n: write_site(tmp_path / n, 60, seed=i) for i, n in enumerate("ab")}
    (sites["a"] / "images/0003.png").write_bytes(b"\x89PNG broken")
    summary = simulate(prepare(experiment_file, sites, tmp_path / "out"))
    assert summary.site_entries["a"].set_aside == 1
    assert "set aside images/0003.png" in (tmp_path / "out/sites/a/site.log").read_text()
