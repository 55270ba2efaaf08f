"""In a federation, each site declines what its policy excludes, and the rest continues."""

import threading
import time
from pathlib import Path

import pytest
from support.hospital import EXPERIMENT, write_site
from support.joined import join

from fedrad.client.app import app as client_app
from fedrad.client.policy.approvals import Approvals
from fedrad.client.policy.ledger import Ledger
from fedrad.client.settings import open_site
from fedrad.deploy.local.simulation import prepare
from fedrad.flower.grid import InProcessGrid
from fedrad.server.experiment import run_experiment
from fedrad.server.federation import federation, visit
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.server.report.outcome_results import outcome_results
from fedrad.server.results.summary import Summary, read_summary


class PolicyFederation:
    """Sites a and b. `policy`: further settings of b. `joined`: whether b has joined."""

    def __init__(self, root: Path, policy: str = "", *, joined: bool = False) -> None:
        self.out = root / "out"
        self.sites = {n: write_site(root / n, 40, seed=s) for s, n in enumerate("ab", start=1)}
        settings = self.sites["b"] / "site.toml"
        policy += '\ncolumns = ["label"]' if joined else ""
        settings.write_text(settings.read_text() + policy + "\n")
        self.file = root / "experiment.toml"
        self.state = self.out / "sites" / "b"
        if joined:
            join(open_site(self.sites["b"], name="b", state=self.state))

    def run(self, text: str = EXPERIMENT, wait_seconds: float = 0.0) -> Summary:
        self.file.write_text(text)
        prepared = prepare(self.file, self.sites, self.out)
        grid = InProcessGrid(client_app, prepared.nodes, {"experiment": text})
        run_experiment(grid, text, prepared.folder, wait_seconds=wait_seconds)
        return read_summary(self.out)

    def reasons(self) -> list[str]:
        """Reasons of b's refusals, in order, each once in a row."""
        entries = Ledger(self.state / "ledger.jsonl").entries()
        reasons = [e["message"]["reason"] for e in entries if e["message"]["kind"] == "refusal"]
        return [r for i, r in enumerate(reasons) if i == 0 or reasons[i - 1] != r]


@pytest.fixture
def quick(monkeypatch):
    """Let the time pass faster until a site is asked again."""
    monkeypatch.setattr(federation, "REFUSED_SECONDS", 0.2)
    monkeypatch.setattr(visit, "REFUSED_SECONDS", 0.2)


GROUPS = '\nsubgroups = { label = ["0", "1"] }\n'


def test_histograms_and_groups_that_are_not_shared_are_declined_and_the_rest_is_there(tmp_path):
    hospitals = PolicyFederation(tmp_path, "share_histograms = false\nshare_subgroups = false")
    summary = hospitals.run(EXPERIMENT + GROUPS)
    cells = {c.site: c for c in summary.cells if c.model == "global"}
    assert cells["b"].auroc is not None
    assert cells["b"].withheld == {"sensitivity": "declined", "site_threshold": "declined"}
    assert cells["b"].decisions.sensitivity is None
    assert cells["a"].decisions.sensitivity is not None
    assert cells["b"].roc == []
    assert {g.missing for g in summary.subgroups if g.site == "b"} == {"declined"}
    assert "declined" not in {g.missing for g in summary.subgroups if g.site == "a"}
    assert (
        "the policy of b shares no histogram" in outcome_results(summary)[0].notes["no histogram"]
    )
    for entry in Ledger(hospitals.state / "ledger.jsonl").entries():
        for scores in entry["message"].get("scores", []):
            assert "histogram" not in scores
            assert "probabilities" not in scores
            assert "site_threshold" not in scores


def test_a_site_with_noise_and_no_histograms_gives_nothing(tmp_path):
    hospitals = PolicyFederation(tmp_path, "share_histograms = false\nepsilon = 1.0")
    summary = hospitals.run()
    missing = {c.model: c.missing for c in summary.cells if c.site == "b"}
    assert missing == {"base": "not run", "local:b": "declined", "global": "declined"}


def test_an_experiment_waits_for_a_sites_approval_and_then_goes_on_with_it(tmp_path, quick):
    hospitals = PolicyFederation(tmp_path, joined=True)
    approvals = Approvals(hospitals.state)

    def officer() -> None:
        while not (waiting := approvals.all()):
            time.sleep(0.1)
        time.sleep(0.5)
        approvals.decide(waiting[0], "approved", "Dr Data")

    person = threading.Thread(target=officer, daemon=True)
    person.start()
    summary = hospitals.run(wait_seconds=60)
    person.join(timeout=30)
    assert summary.status == "completed"
    assert {c.site for c in summary.cells if c.auroc is not None} == {"a", "b"}
    assert hospitals.reasons() == ["approval"]
    entries = Ledger(hospitals.state / "ledger.jsonl").entries()
    kinds = [e["message"]["kind"] for e in entries]
    assert "readiness" not in kinds[: kinds.index("decision")]


def test_a_site_that_approves_nothing_is_named_with_its_reason(tmp_path):
    hospitals = PolicyFederation(tmp_path, joined=True)
    with pytest.raises(ExperimentFailed, match="has not approved this experiment yet"):
        hospitals.run()
    assert "has not approved" in str(read_summary(hospitals.out).absent)


def test_an_experiment_that_the_policy_does_not_admit_is_refused(tmp_path):
    hospitals = PolicyFederation(tmp_path, 'experiments = ["bpd-*"]')
    with pytest.raises(ExperimentFailed, match="policy does not admit"):
        hospitals.run()
    assert hospitals.reasons() == ["policy"]
    assert not (hospitals.state / "images").exists()  # nothing was read for it


def test_a_site_that_is_closed_when_its_figures_are_asked_for_is_asked_again(tmp_path, quick):
    """It reaches its limit of the day in the last round; the next day it answers."""
    hospitals = PolicyFederation(tmp_path, "compute_hours_per_day = 100")
    settings = hospitals.sites["b"] / "site.toml"
    text = settings.read_text()
    began = threading.Event()

    def night() -> None:
        ledger = Ledger(hospitals.state / "ledger.jsonl")
        while sum(e["message"]["kind"] == "round" for e in ledger.read().entries) < 2:
            time.sleep(0.02)
        settings.write_text(text.replace("= 100", "= 0"))
        while "limit" not in hospitals.reasons():
            time.sleep(0.02)
        began.set()
        settings.write_text(text)

    clock = threading.Thread(target=night, daemon=True)
    clock.start()
    summary = hospitals.run(wait_seconds=60)
    clock.join(timeout=30)
    assert began.is_set()
    assert hospitals.reasons() == ["limit"]
    assert {c.site for c in summary.cells if c.model == "global" and c.auroc} == {"a", "b"}
