"""The site decides which experiments run there, when, how much, and who approves them."""

import json
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from support.generators import GENERATOR
from support.hospital import SHORT
from support.joined import join
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.policy import approvals
from fedrad.client.policy.admission import check_request
from fedrad.client.policy.approvals import Approvals
from fedrad.client.policy.ledger import Ledger
from fedrad.client.policy.plain_words import describe_experiment
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Policy, Site, open_site
from fedrad.exchange.experiment import ExperimentError, parse_experiment
from fedrad.exchange.messages import (
    BaselineRequest,
    ReadyRequest,
    ReleaseRequest,
    RoundReply,
    RoundRequest,
    ScoreRequest,
)
from fedrad.system.folders import make_folder

READY = ReadyRequest(fedrad="0.1.0")
ROUND = RoundRequest.model_construct(round=0)
SCORE = ScoreRequest(part="test", model="base")
EXPERIMENT = parse_experiment(SHORT)


def site_of(tmp_path: Path, policy: str, *, joined: bool = False) -> Site:
    """A site's folder with a policy, no image in it."""
    tmp_path.mkdir(exist_ok=True)
    if joined and "columns" not in policy:
        policy += '\ncolumns = ["label"]'
    (tmp_path / "site.toml").write_text(f'name = "a"\n[policy]\n{policy}\n')
    site = open_site(tmp_path, state=tmp_path / "state")
    make_folder(site.state)
    return join(site) if joined else site


def asked(site: Site, request=READY, text: str = SHORT) -> str:
    """The reason of the site's refusal; "" if it admits the request."""
    try:
        check_request(
            site, parse_experiment(text), text, request, Ledger(site.state / "ledger.jsonl")
        )
    except SiteProblem as problem:
        return problem.reason
    return ""


# Experiments and coordinators


def test_only_experiments_of_the_policys_names_run(tmp_path):
    assert asked(site_of(tmp_path, 'experiments = ["bpd-*", "pie"]')) == "policy"
    assert asked(site_of(tmp_path, 'experiments = ["bpd-*", "te?t"]')) == ""
    assert asked(site_of(tmp_path, "experiments = []")) == "policy"


def test_only_the_policys_coordinators_are_answered(tmp_path):
    ours = site_of(tmp_path, 'approval = false\ncoordinators = ["*.example.org:*"]', joined=True)
    assert asked(ours) == ""
    other = 'approval = false\ncoordinators = ["fedrad.other.org:8000"]'
    assert asked(site_of(tmp_path, other, joined=True)) == "policy"


# Hours and limits


@pytest.mark.parametrize(
    ("hours", "open_at", "closed_at"),
    [
        ("20:00-06:00", ["20:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "19:59"]),
        ("08:30-17:00", ["08:30", "16:59"], ["08:29", "17:00", "00:00"]),
        ("00:00-00:00", [], ["00:00", "12:00"]),
    ],
)
def test_hours_may_go_over_midnight(hours, open_at, closed_at):
    policy = Policy(hours=hours)
    assert all(policy.is_open(time.fromisoformat(t)) for t in open_at)
    assert not any(policy.is_open(time.fromisoformat(t)) for t in closed_at)


@pytest.mark.parametrize("hours", ["20-6", "24:00-06:00", "20:00-06:60", "20:00 - 06:00", ""])
def test_hours_of_no_clock_are_refused_when_the_file_is_read(hours):
    with pytest.raises(ValidationError):
        Policy(hours=hours)


def test_outside_its_hours_a_site_answers_nothing(tmp_path):
    site = site_of(tmp_path, 'hours = "00:00-00:00"')
    assert {asked(site, r) for r in (READY, ROUND, SCORE)} == {"hours"}


def test_a_day_has_so_many_rounds_and_hours(tmp_path, monkeypatch):
    site = site_of(tmp_path, "rounds_per_day = 2\ncompute_hours_per_day = 1.5")
    ledger = Ledger(site.state / "ledger.jsonl")
    done = RoundReply(
        manifest=None, patients=0, images=0, loss=None, steps=0, seconds=1, monitoring={}
    )
    assert asked(site, ROUND) == ""
    ledger.record("test", done, asked=None, seconds=1800)
    assert asked(site, ROUND) == ""
    ledger.record("other", done, asked=None, seconds=1800)
    assert asked(site, ROUND) == "limit"
    assert asked(site, SCORE) == ""  # not a round, and there is half an hour left
    ledger.record("test", done, asked=None, seconds=1800)
    assert asked(site, SCORE) == asked(site, BaselineRequest()) == "limit"
    assert asked(site, READY) == asked(site, ReleaseRequest(part="test", models=[])) == ""

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=1)

    monkeypatch.setattr("fedrad.client.policy.admission.datetime", Tomorrow)
    assert asked(site, ROUND) == ""


# Approval


def test_at_a_joined_site_an_experiment_waits_until_a_person_approves_it(tmp_path):
    site = site_of(tmp_path, "", joined=True)
    approvals = Approvals(site.state)
    assert asked(site) == asked(site) == "approval"
    (waiting,) = approvals.all()
    assert waiting.standing == "waiting"
    assert waiting.text == SHORT
    approved = approvals.decide(waiting, "approved", "Dr Data")
    assert asked(site) == ""
    approvals.decide(approved, "revoked", "Dr Data")
    assert asked(site) == "approval"
    entries = Ledger(site.state / "ledger.jsonl").entries()
    sayings = [e["message"] for e in entries if e["message"]["kind"] == "decision"]
    assert [(m["decision"], m["by"]) for m in sayings] == [
        ("approved", "Dr Data"),
        ("revoked", "Dr Data"),
    ]


def test_a_changed_experiment_needs_approval_anew_and_a_comment_is_no_change(tmp_path):
    site = site_of(tmp_path, "", joined=True)
    assert asked(site) == "approval"
    approvals = Approvals(site.state)
    approvals.decide(approvals.all()[0], "approved", "x")
    assert asked(site, text=SHORT + "# a comment\n") == ""
    assert asked(site, text=SHORT.replace("seed = 3", "seed = 4")) == "approval"
    assert asked(site, text=SHORT.replace("minimum_units = 3", "minimum_units = 2")) == "approval"
    assert [one.standing for one in approvals.all()].count("waiting") == 2


def test_the_folds_of_a_cross_validation_are_approved_together(tmp_path):
    site = site_of(tmp_path, "", joined=True)
    folds = [SHORT + f"folds = 3\nfold_number = {number}\n" for number in range(3)]
    assert asked(site, text=folds[0]) == "approval"
    approvals = Approvals(site.state)
    approvals.decide(approvals.all()[0], "approved", "x")
    assert [asked(site, text=fold) for fold in folds] == ["", "", ""]


def test_a_simulation_needs_no_approval_and_approval_can_be_waived(tmp_path):
    assert asked(site_of(tmp_path / "simulated", "")) == ""
    assert asked(site_of(tmp_path / "waived", "approval = false", joined=True)) == ""
    assert not (tmp_path / "waived" / "state" / "approvals").exists()


def test_a_flood_of_experiments_fills_no_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(approvals, "MOST_WAITING", 3)
    site = site_of(tmp_path, "", joined=True)
    for seed in range(10):
        assert asked(site, text=SHORT.replace("seed = 3", f"seed = {seed}")) == "approval"
    assert len(Approvals(site.state).all()) == 3


def test_a_damaged_approval_is_no_approval(tmp_path):
    site = site_of(tmp_path, "", joined=True)
    asked(site)
    (file,) = (site.state / "approvals").glob("*.json")
    file.write_text(file.read_text().replace('"decisions"', '"decision"')[:-3])
    assert asked(site) == "approval"


# In plain words


def words(text: str, **policy) -> str:
    sections = describe_experiment(parse_experiment(text), Policy(**policy))
    return "\n".join(f"{heading}: {'; '.join(sentences)}" for heading, sentences in sections)


def test_an_experiment_is_described_with_what_the_policy_declines():
    text = SHORT.replace("local_baseline = false", "travel = true")
    text = text.replace("[federation]", '[federation]\nsites = ["a", "b"]') + (
        'subgroups = { sex = ["F", "M"], age = [1.0] }\n'
    )
    shown = words(text, minimum_units=12)
    assert "in each of the 1 rounds: the trained weights" in shown
    assert "these weights are: round 1 of the whole network" in shown
    assert "AUROC and counts by sex (F, M), for groups of at least 12 patients" in shown
    assert "< 1, ≥ 1" in shown
    assert "local-only model for scoring elsewhere: declined" in shown
    assert "classes of 3 to 11 patients: declined" in shown
    shown = words(
        text,
        share_histograms=False,
        share_subgroups=False,
        share_local_model=True,
        test_other_models=True,
    )
    assert "histograms of scores: declined" in shown
    assert "figures of groups of patients: declined" in shown
    assert "no bin of fewer than" not in shown
    assert "counts by" not in shown
    assert "this site's local-only model, to be scored at other sites" in shown
    assert "nothing: all that is asked for is within it" in words(SHORT, minimum_units=3)


def test_a_generator_is_described_with_what_its_weights_can_reveal():
    """The text must not describe a classifier if the weights can reveal images."""
    shown = words(GENERATOR)
    assert "a generator: a network that makes chest radiographs" in shown
    assert "estimates" not in shown
    assert "AUROC" not in shown
    assert "can give training images back" in shown
    assert "weights of a generator: declined (share_generator); this site does not take" in shown
    assert "nothing: all that is asked for is within it" in words(GENERATOR, share_generator=True)


def test_simulated_images_in_training_are_described():
    text = SHORT.replace(
        "batch_size = 8",
        "batch_size = 8\nprogression = { probability = 0.3, "
        f'generator = "g.safetensors", sha256 = "{64 * "0"}" }}',
    )
    assert "with a probability of 0.3 it sees" in words(text)
    assert "g.safetensors makes of it here; these pictures stay" in words(text)


def test_control_characters_do_not_come_as_far_as_the_screen():
    for text in (
        SHORT.replace('"random"', '"\\u001b[2Jx.safetensors"'),
        SHORT + 'subgroups = { sex = ["F\\u001b[2J", "M"] }\n',
    ):
        with pytest.raises(ExperimentError) as error:
            parse_experiment(text)
        assert "\x1b" not in str(error.value)


# The command


def command(site: Site, *arguments: str, answer: str = "") -> str:
    given = ["approve", str(site.folder), *arguments, "--state", str(site.state)]
    result = CliRunner().invoke(app, given, input=answer)
    return result.output


def test_the_command_lists_shows_records_and_takes_back(tmp_path):
    site = site_of(tmp_path, "", joined=True)
    assert "No experiment" in command(site)
    asked(site)
    assert "waiting" in command(site)
    assert "Approve exactly this?" in command(site, "test", answer="n\n")
    assert asked(site) == "approval"
    assert "test: approved" in command(site, "test", "--by", "Dr Data", answer="y\n")
    assert asked(site) == ""
    assert "Dr Data" in command(site)
    assert "revoked" in command(site, "test", "--revoke", "--yes")
    assert asked(site) == "approval"
    assert "was not asked for" in command(site, "other")


def test_an_experiment_that_came_by_mail_can_be_approved_before_it_is_asked_for(tmp_path):
    site = site_of(tmp_path / "site", "", joined=True)
    (tmp_path / "experiment.toml").write_text(SHORT)
    command(site, "--file", str(tmp_path / "experiment.toml"), "--yes")
    assert asked(site) == ""


def test_the_settings_must_be_given_if_several_have_the_name(tmp_path):
    site = site_of(tmp_path, "", joined=True)
    asked(site)
    asked(site, text=SHORT.replace("seed = 3", "seed = 4"))
    assert "say which" in command(site, "test")
    identity = EXPERIMENT.family[:8]
    assert "approved" in command(site, "test", "--settings", identity, "--yes")
    assert asked(site) == ""


# The ledger's command


def test_the_ledger_is_shown_explained_and_exported(tmp_path):
    site = site_of(tmp_path, "", joined=True)
    asked(site)
    command(site, "test", "--yes", "--by", "Dr Data")
    ledger = Ledger(site.state / "ledger.jsonl")
    done = RoundReply(
        manifest=None, patients=40, images=41, loss=0.5, steps=0, seconds=1, monitoring={}
    )
    ledger.record("test", done, asked=RoundRequest.model_construct(round=2))
    where = [str(site.folder), "--state", str(site.state)]
    shown = CliRunner().invoke(app, ["ledger", *where]).output
    assert "approved by Dr Data" in shown
    assert "one round: the trained weights" in shown
    assert "chain is whole" in shown
    for name in ("out.csv", "out.json"):
        result = CliRunner().invoke(app, ["ledger", *where, "--export", str(tmp_path / name)])
        assert result.exit_code == 0
    assert "round 3, 40 patients, 41 images" in (tmp_path / "out.csv").read_text()
    assert json.loads((tmp_path / "out.json").read_text())["head"] == ledger.read().head
    printed = json.loads(CliRunner().invoke(app, ["ledger", *where, "--json"]).output)
    kinds = [entry["message"]["kind"] for entry in printed["entries"]]
    assert kinds == ["membership", "policy", "decision", "round"]
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"time": "2026')
    assert "was cut off" in CliRunner().invoke(app, ["ledger", *where]).output
    ledger.path.write_bytes(whole)
    lines = ledger.path.read_text().splitlines()
    lines[2] = lines[2].replace("Dr Data", "Dr Else")
    ledger.path.write_text("\n".join(lines) + "\n")
    changed = CliRunner().invoke(app, ["ledger", *where])
    assert changed.exit_code == 2
    assert "line 3" in changed.output
    assert datetime.fromisoformat(json.loads(lines[0])["time"]) <= datetime.now(UTC)
