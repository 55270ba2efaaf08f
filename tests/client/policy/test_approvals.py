"""An approval is of one text, to the last byte; it ends, and only the ledger has it."""

import json
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from support.hospital import SHORT
from support.joined import join
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.policy.admission import check_request
from fedrad.client.policy.approvals import Approvals, Decision
from fedrad.client.policy.ledger import Ledger, LedgerError
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.exchange.experiment import Experiment, parse_experiment
from fedrad.exchange.messages import ReadyRequest, Refusal, RoundReply

OTHER = SHORT.replace("rounds = 1", "rounds = 10000").replace('["label"]', '["death"]')
READY = ReadyRequest(fedrad="0.1.0")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "site.toml").write_text('name = "a"\n')
    return join(open_site(tmp_path, state=tmp_path / "state"))


def asks(site: Site, text: str = SHORT) -> Decision | None:
    ledger = Ledger(site.state / "ledger.jsonl")
    return check_request(site, parse_experiment(text), text, READY, ledger)


def refused(site: Site, text: str = SHORT) -> str:
    with pytest.raises(SiteProblem) as caught:
        asks(site, text)
    assert caught.value.reason == "approval"
    return str(caught.value)


def approve(site: Site, text: str = SHORT, **limits) -> None:
    approvals = Approvals(site.state)
    asked = approvals.add(parse_experiment(text), text)
    approvals.decide(asked, "approved", "Dr Data", **limits)


def test_an_approval_admits_no_other_experiment_whose_hash_begins_alike(site, monkeypatch):
    """Five pairs with 48 equal bits were found in half an hour; here all have them."""
    whole = Experiment.family.fget
    alike = property(lambda self: "0" * 12 + sha256(whole(self).encode()).hexdigest()[12:])
    monkeypatch.setattr(Experiment, "family", alike)
    approve(site)
    assert asks(site) is not None
    assert "waits" in refused(site, OTHER)


def test_a_file_among_the_approvals_admits_nothing_by_itself(site):
    refused(site)
    (file,) = (site.state / "approvals").glob("*.json")
    content = json.loads(file.read_text())
    made = {"decision": "approved", "by": "nobody", "time": "2026-01-01T00:00:00+00:00"}
    file.write_text(json.dumps(content | {"decisions": [made]}))
    assert "waits" in refused(site)
    (waiting,) = Approvals(site.state).all()
    assert waiting.standing == "waiting"


def test_what_was_approved_stays_so_if_its_file_is_lost(site):
    approve(site)
    (file,) = (site.state / "approvals").glob("*.json")
    assert file.name == f"test-{parse_experiment(SHORT).family}.json"
    file.unlink()
    assert asks(site).by == "Dr Data"
    assert file.exists()


def test_a_stored_text_with_other_settings_than_its_name_says_is_refused(site):
    approve(site)
    (file,) = (site.state / "approvals").glob("*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"text": OTHER}))
    assert "another hash" in refused(site)
    shown = CliRunner().invoke(
        app, ["approve", str(site.folder), "test", "--state", str(site.state)]
    )
    assert shown.exit_code == 2
    assert "another hash" in shown.output


def test_a_site_that_declines_a_file_sent_in_advance_has_lost_no_ledger(tmp_path):
    """The ledger begins with the first decision; without one there is none that could be missed."""
    (tmp_path / "site.toml").write_text('name = "a"\n')
    (tmp_path / "test.toml").write_text(SHORT)
    state = tmp_path / "state"
    given = ["approve", str(tmp_path), "--file", str(tmp_path / "test.toml"), "--state", str(state)]
    declined = CliRunner().invoke(app, given, input="n\n")
    assert "nothing was decided" in declined.output
    listed = CliRunner().invoke(app, ["approve", str(tmp_path), "--state", str(state)])
    assert "No experiment was asked for yet" in listed.output
    join(open_site(tmp_path, state=state))
    approved = CliRunner().invoke(app, given, input="y\n")
    assert approved.exit_code == 0, approved.output
    (one,) = Approvals(state).all()
    assert one.standing == "approved"


def test_settings_that_are_the_default_are_the_same_written_or_not(site):
    approve(site)
    assert asks(site, SHORT.replace("rounds = 1", "rounds = 1\nclip = 100.0")) is not None
    assert "waits" in refused(site, SHORT.replace("rounds = 1", "rounds = 1\nclip = 99.0"))


def test_an_approval_ends_after_its_last_day(site):
    today = datetime.now().astimezone().date()
    approve(site, until=today)
    assert asks(site).until == today
    approve(site, until=today - timedelta(days=1))
    assert "expired" in refused(site)
    (one,) = Approvals(site.state).all()
    assert one.standing == "expired"
    approve(site)
    assert asks(site).until is None


def test_the_number_of_runs_is_told_to_who_counts_them(site):
    approve(site, runs=3)
    assert asks(site).runs == 3


def test_the_last_decision_counts_however_much_was_sent_since(site):
    approve(site)
    ledger = Ledger(site.state / "ledger.jsonl")
    family = parse_experiment(SHORT).family
    for number in range(300):
        ledger.record("test", Refusal(reason="hours"), identity=family, number=number)
    assert asks(site) is not None
    approvals = Approvals(site.state)
    approvals.decide(approvals.all()[0], "revoked", "Dr Data")
    ledger.record("test", Refusal(reason="approval"), identity=family)
    assert "waits" in refused(site)


@pytest.mark.parametrize("fault", ["changed", "removed", "all removed"])
def test_a_ledger_that_was_changed_admits_nothing(site, fault):
    """The last decision takes the approval back; without its line the experiment would go on."""
    approve(site)
    approvals = Approvals(site.state)
    approvals.decide(approvals.all()[0], "revoked", "Dr Data")
    ledger = Ledger(site.state / "ledger.jsonl")
    ledger.record("test", Refusal(reason="approval"))
    lines = ledger.path.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if '"revoked"' in line)
    if fault == "changed":
        lines[at] = lines[at].replace('"revoked"', '"approved"')
    elif fault == "removed":
        del lines[at]
    ledger.path.write_text("\n".join(lines) + "\n")
    if fault == "all removed":
        ledger.path.unlink()
        with pytest.raises(LedgerError, match="is missing"):
            ledger.record("test", Refusal(reason="approval"))
        assert "waits" in refused(site)
    else:
        with pytest.raises(SiteProblem, match="was changed or removed") as caught:
            asks(site)
        assert caught.value.reason == "policy"


# The screen


def shown(site: Site, *options: str) -> str:
    given = ["approve", str(site.folder), "test", "--state", str(site.state), *options]
    return " ".join(CliRunner().invoke(app, given, input="n\n").output.split())


def test_the_screen_shows_all_that_is_approved(site):
    text = SHORT.replace("rounds = 1", "rounds = 6").replace('"label"', '"label", "death"')
    text = text.replace("local_baseline = false", 'folds = 3\nsubgroups = { sex = ["F", "M"] }')
    text = text.replace('preset = "full"', 'preset = "full"\nlocal_epochs = 2')
    refused(site, text)
    screen = shown(site)
    family = parse_experiment(text).family
    assert f"SHA-256 of all its settings: {family}" in screen
    assert "12 passes over each training patient (6 rounds of 2)" in screen
    assert "in each of 3 trainings; a patient trains in at most 2 of them: 48 passes" in screen
    assert (
        "readiness, 6 rounds about one model each, a local-only model, scores of each model"
        in screen
    )
    assert "used as outcomes: label, death; for groups of patients: sex" in screen
    assert "seed of the division and of all draws: 3" in screen
    assert "a norm of at most 100" in screen
    assert "no privacy loss ε is stated" in screen
    assert "this is the first experiment on these patients" in screen
    assert "outlier_factor" not in screen
    assert '"outlier_factor": 20.0' in shown(site, "--all-settings")


def test_the_screen_adds_epsilon_up(tmp_path):
    (tmp_path / "site.toml").write_text('name = "a"\n[policy]\nepsilon = 0.5\n')
    site = join(open_site(tmp_path, state=tmp_path / "state"))
    refused(site)
    assert "privacy loss of one patient, at most: ε = 1.5" in shown(site)  # three models


def test_the_screen_promises_to_send_nothing_that_the_policy_withholds(tmp_path):
    (tmp_path / "site.toml").write_text('name = "a"\n[policy]\nmonitoring = "none"\n')
    site = join(open_site(tmp_path, state=tmp_path / "state"))
    refused(site)
    screen = shown(site)
    assert "validation patients; without what the policy does not give" in screen
    assert "losses of training: declined (monitoring)" in screen


def test_the_screen_names_the_coordinator_and_the_other_sites(site):
    text = SHORT.replace("[federation]", '[federation]\nsites = ["a", "north"]')
    refused(site, text)
    screen = shown(site)
    assert "with the sites a, north" in screen
    assert "this site's coordinator: " in screen


def test_the_screen_says_what_was_approved_before_on_these_patients(site):
    first = SHORT.replace('name = "test"', 'name = "bpd-1"')
    first = first.replace("rounds = 1", "rounds = 30")
    approve(site, first)
    ledger = Ledger(site.state / "ledger.jsonl")
    done = RoundReply(
        manifest=None, patients=40, images=41, loss=0.5, steps=0, seconds=1, monitoring={}
    )
    for number in (1, 2, 2):  # the last one is the stored answer, sent again
        ledger.record("bpd-1", done, identity=parse_experiment(first).family, number=number)
    refused(site)
    screen = shown(site)
    assert "this is the second experiment on these patients" in screen
    today = f"{datetime.now().astimezone():%Y-%m-}"
    assert f"bpd-1, approved by Dr Data on {today}" in screen
    assert "2 of 30 rounds were answered" in screen


def test_an_approval_with_limits_replaces_one_without(site):
    approve(site)
    given = ["approve", str(site.folder), "test", "--state", str(site.state), "--yes"]
    assert "approved already" in CliRunner().invoke(app, given).output
    ended = CliRunner().invoke(app, [*given, "--until", "2099-06-30", "--runs", "3"])
    assert ended.exit_code == 0, ended.output
    decision = asks(site)
    assert (str(decision.until), decision.runs) == ("2099-06-30", 3)
    table = CliRunner().invoke(app, ["approve", str(site.folder), "--state", str(site.state)])
    assert "2099-06-30" in table.output
    assert "0 of 3 runs used" in " ".join(table.output.split())
    assert (
        "until 2099-06-30 for 3 runs"
        in CliRunner().invoke(app, ["ledger", str(site.folder), "--state", str(site.state)]).output
    )
    revoke = CliRunner().invoke(app, [*given, "--revoke", "--runs", "3"])
    assert "belong to an approval" in revoke.output
    over = CliRunner().invoke(app, [*given, "--until", "2020-01-31"])
    assert (over.exit_code, "that day is over" in over.output) == (2, True)
