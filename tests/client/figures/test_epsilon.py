"""A federation in which a site releases nothing exact: the coordinator does without."""

import json
from pathlib import Path

import pytest
from support.hospital import EXPERIMENT, run, with_, write_site

from fedrad.client.policy.ledger import Ledger


@pytest.fixture
def strict(sites, tmp_path) -> dict[str, Path]:
    """Site b gives figures with accounted noise only."""
    with (sites["b"] / "site.toml").open("a") as file:
        file.write('epsilon = 2.0\nmonitoring = "noisy"\n')
    sites["c"] = write_site(tmp_path / "sites" / "c", 30, seed=5)
    return sites


def sent(state: Path, kind: str) -> list[dict]:
    entries = Ledger(state / "ledger.jsonl").entries()
    return [e["message"] for e in entries if e["message"]["kind"] == kind]


def test_with_epsilon_no_count_of_a_class_no_loss_and_no_exact_figure_leaves(strict, tmp_path):
    summary = run(with_(EXPERIMENT, ensemble="[0.5]"), strict, tmp_path / "x")
    assert summary.status == "completed"
    state = tmp_path / "x" / "out" / "sites" / "b"
    [readiness] = sent(state, "readiness")
    for outcomes in readiness["units"].values():
        assert outcomes == {"label": {"positives": None, "negatives": None}}
    for reply in sent(state, "round"):
        assert reply["loss"] is None
        assert reply["monitoring"]["label"].keys() == {"auroc", "epsilon"}
        assert reply["patients"] > 0, "the weight in the mean is the same for neighbours"
    assert sent(state, "baseline")[0].get("loss") is None
    for release in sent(state, "release"):
        for scores in release["scores"]:
            assert scores.keys() <= {
                *("model", "outcome", "histogram", "epsilon", "positives", "negatives", "missing")
            }
    [validation, _] = sent(state, "release")
    assert summary.epsilon == {"b": pytest.approx(2.0 + validation["epsilon"])}
    report = (tmp_path / "x" / "out" / "report.html").read_text()
    assert "withheld" in report
    assert json.loads((tmp_path / "x" / "out" / "summary.json").read_text())["ensemble"]


def test_without_any_exact_figure_the_final_model_is_kept(sites, tmp_path):
    del sites["one"]
    for folder in sites.values():
        with (folder / "site.toml").open("a") as file:
            file.write("epsilon = 2.0\n")
    summary = run(with_(EXPERIMENT, ensemble="[0.5]"), sites, tmp_path / "x")
    assert summary.status == "completed"
    assert summary.best is None
    assert summary.ensemble is not None
    assert summary.ensemble.alpha == 1.0
    assert all(e.auroc == {"label": None} for r in summary.rounds for e in r.sites.values())


def test_the_same_model_has_the_same_noise_in_another_experiment(sites, tmp_path):
    """Base weights are scored in every experiment; their histograms must not be averaged."""
    del sites["one"]
    for folder in sites.values():
        with (folder / "site.toml").open("a") as file:
            file.write("epsilon = 2.0\n")
    text = EXPERIMENT.replace("rounds = 2", "rounds = 1")
    histograms = []
    for name in ("first", "second"):
        run(text.replace('name = "test"', f'name = "{name}"'), sites, tmp_path / name)
        release = sent(tmp_path / name / "out" / "sites" / "a", "release")[-1]
        of_own = next(s for s in release["scores"] if s["model"] == "local:a")
        histograms.append((of_own.get("histogram"), of_own.get("missing")))
    assert histograms[0] == histograms[1], "the same seed trains the same local-only model"
