"""A node answers only if all that protects it is as a person left it."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hospital import SHORT
from support.joined import join
from typer.testing import CliRunner

from fedrad.client.commands.main import app
from fedrad.client.node import service
from fedrad.client.policy.approvals import Approvals
from fedrad.client.policy.integrity import check_site, prepare_start
from fedrad.client.policy.ledger import Ledger, LedgerError
from fedrad.client.policy.membership import RUNNING, join_federation, read_membership
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.deploy.coordinator.authority import Authority
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.invitation import Invitation
from fedrad.exchange.messages import Refusal
from fedrad.system.files import locked

SETTINGS = 'name = "a"\n[policy]\nepsilon = 1.0\ncolumns = ["label"]\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "site.toml").write_text(SETTINGS)
    return join(open_site(folder, state=tmp_path / "state"), accepted=False)


@pytest.fixture
def started(site: Site) -> Site:
    prepare_start(site, "engineer")
    check_site(site)
    return site


def visited(site: Site) -> str:
    """What the next visit of a running node is refused with; "" if it is not. The site is opened
    anew, as each visit does."""
    try:
        check_site(open_site(site.folder, name=site.name, state=site.state))
    except SiteProblem as problem:
        return str(problem) if problem.reason == "policy" else f"another reason: {problem.reason}"
    return ""


def write(text: str) -> Callable[[Site], object]:
    return lambda site: (site.folder / "site.toml").write_text(text)


def remove(name: str) -> Callable[[Site], object]:
    return lambda site: (site.state / name).unlink()


def change_mode(name: str, mode: int) -> Callable[[Site], object]:
    return lambda site: (site.state / name).chmod(mode)


def shorten(site: Site) -> None:
    """Take the last lines away, and go on with a chain that is whole."""
    ledger = Ledger(site.state / "ledger.jsonl")
    ledger.path.write_text(ledger.path.read_text().splitlines(keepends=True)[0])
    ledger.note({"kind": "policy", "by": "x", "settings": {}})


FAULTS: dict[str, tuple[Callable[[Site], object], str]] = {
    "membership deleted": (remove("membership.json"), "has not joined"),
    "membership damaged": (
        lambda site: (site.state / "membership.json").write_text("{"),
        "restore it from a backup",
    ),
    "membership of another": (
        lambda site: (site.state / "membership.json").write_text(
            (site.state / "membership.json").read_text().replace('"a"', '"b"')
        ),
        "the membership is that of 'b'",
    ),
    "node key deleted": (remove("node.key"), "is missing"),
    "state open": (change_mode("", 0o750), "chmod 700"),
    "key open": (change_mode("node.key", 0o640), "chmod 600"),
    "ledger writable": (change_mode("ledger.jsonl", 0o622), "chmod 600"),
    "settings deleted": (
        lambda site: (site.folder / "site.toml").unlink(),
        "no default policy",
    ),
    "settings empty": (write(""), "no default policy"),
    "settings of comments": (write("# name = 'a'\n"), "no default policy"),
    "policy removed": (write('name = "a"\n'), "policy.epsilon: 1.0 before, 0.0 now"),
    "limit changed": (write(SETTINGS + "minimum_units = 1\n"), "minimum_units: 10 before, 1 now"),
    "list opened": (
        write(SETTINGS.replace('"label"', '"label", "hiv"')),
        'policy.columns: ["label"] before, ["label", "hiv"] now',
    ),
    "other table": (
        write(SETTINGS.replace("[policy]", 'cohort = "all.csv"\n[policy]')),
        "cohort: cohort.csv before, all.csv now",
    ),
    "other column": (
        write(SETTINGS + '[columns]\npatient = "row"\n'),
        "columns.patient: patient_id before, row now",
    ),
    "ledger deleted": (remove("ledger.jsonl"), "is missing"),
    "ledger shortened": (shorten, "shortened or rewritten"),
    "heads damaged": (lambda site: (site.state / "heads.txt").write_text("x\n"), "no head"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_running_node_refuses_every_visit_after(started, fault):
    assert visited(started) == ""
    do, words = FAULTS[fault]
    do(started)
    assert words in visited(started)
    with pytest.raises((SiteProblem, LedgerError)):  # nor can it be started again
        prepare_start(open_site(started.folder, name="a", state=started.state), "engineer")


def test_a_state_folder_of_another_user_is_refused(started, monkeypatch):
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert "belongs to another user" in visited(started)


def test_a_setting_that_says_nothing_about_what_leaves_may_change(started):
    write("threads = 3\n" + SETTINGS)(started)
    assert visited(started) == ""


def test_a_ledger_that_was_removed_is_not_begun_again_by_a_refusal(started):
    ledger = Ledger(started.state / "ledger.jsonl")
    ledger.path.unlink()
    with pytest.raises(LedgerError, match="restore it from a backup"):
        ledger.record("test", Refusal(reason="policy"))
    assert not ledger.path.exists()
    (started.state / "membership.json").unlink()
    with pytest.raises(LedgerError, match="restore it from a backup"):
        ledger.record("test", Refusal(reason="policy"))


def test_a_site_that_joined_before_there_was_a_pin_gets_one_at_its_first_start(site):
    assert "nobody has accepted" in visited(site)
    prepare_start(site, "engineer")
    assert visited(site) == ""


# Accepting a change


def command(site: Site, *arguments: str, answer: str = "") -> tuple[int, str]:
    given = [*arguments, str(site.folder), "--state", str(site.state)]
    result = CliRunner().invoke(app, given, input=answer)
    return result.exit_code, result.output


def test_a_person_accepts_a_change_after_reading_it(started):
    assert "site.toml says the same" in command(started, "policy", "show")[1]
    write(SETTINGS.replace("epsilon = 1.0", "epsilon = 8.0\nshare_local_model = true"))(started)
    assert "policy.epsilon: 1.0 before, 8.0 now" in command(started, "policy", "show")[1]
    status, shown = command(started, "policy", "accept", answer="n\n")
    assert (status, "share_local_model: no before, yes now" in shown) == (2, True)
    assert "minimum_units" not in shown
    assert visited(started)
    assert command(started, "policy", "accept", "--by", "Dr Data", answer="y\n")[0] == 0
    assert visited(started) == ""
    assert "accepted already" in command(started, "policy", "accept")[1]
    assert "accepted by Dr Data" in command(started, "policy", "show")[1]
    (*_, entry) = Ledger(started.state / "ledger.jsonl").entries()
    assert entry["message"]["settings"]["policy"]["epsilon"] == 8.0


def test_the_start_command_says_why_it_does_not_start(started):
    write('name = "a"\n')(started)
    status, output = command(started, "start")
    assert status == 2
    assert "policy.epsilon: 1.0 before, 0.0 now" in output
    assert "policy accept" in output


# Joining


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    return Authority(tmp_path_factory.mktemp("ca")).certificate_file.read_text()


@pytest.fixture
def invitation(certificate: str) -> Invitation:
    return Invitation(
        id="1" * 32,
        site="a",
        address="coordinator.example.org:8000",
        ca_certificate=certificate,
        expires="2099-01-01T00:00:00Z",
    )


def test_a_join_beside_a_running_node_changes_nothing(started, invitation, tmp_path):
    before = {file.name: file.read_bytes() for file in started.state.iterdir()}
    with (
        locked(started.state / RUNNING),
        pytest.raises(SiteProblem, match="`fedrad-site stop` first"),
    ):
        join_federation(started, invitation, tmp_path / "a.request")
    lock = f".{RUNNING}.lock"
    after = {file.name: file.read_bytes() for file in started.state.iterdir()}
    assert {name: after[name] for name in before if name != lock} == {
        name: text for name, text in before.items() if name != lock
    }
    assert visited(started) == ""


def test_no_node_starts_while_the_site_joins(started, invitation, tmp_path, monkeypatch):
    def answer(*_: object) -> None:
        with pytest.raises(SiteProblem, match="runs already"), service._locked_node(started):
            pass
        raise OSError(errno.ENOSPC, "No space left on device", "a.request")

    monkeypatch.setattr("fedrad.exchange.invitation.JoinRequest.write", answer)
    with pytest.raises(SiteProblem, match="No space left"):
        join_federation(started, invitation, tmp_path / "a.request", new_key=True)
    assert read_membership(started.state).address == "fedrad.example.org:8000"
    assert visited(started) == ""


def test_joining_begins_the_ledger(tmp_path, invitation):
    (tmp_path / "site.toml").write_text(SETTINGS)
    site = open_site(tmp_path, state=tmp_path / "state")
    join_federation(site, invitation, tmp_path / "a.request")
    prepare_start(site, "engineer")
    entries = Ledger(site.state / "ledger.jsonl").entries()
    kinds = [entry["message"]["kind"] for entry in entries]
    assert kinds == ["membership", "policy"]
    assert visited(site) == ""


def test_a_site_whose_ledger_was_removed_cannot_join_its_way_out(started, invitation, tmp_path):
    (started.state / "ledger.jsonl").unlink()
    with pytest.raises(SiteProblem, match="is missing"):
        join_federation(started, invitation, tmp_path / "a.request")


# A full disk, another version


def test_on_a_full_disk_nothing_is_recorded_and_the_remedy_is_said(started, monkeypatch):
    approvals = Approvals(started.state)
    asked = approvals.add(parse_experiment(SHORT), SHORT)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ledger = Ledger(started.state / "ledger.jsonl")
    monkeypatch.setattr(os, "fsync", full)
    for act in (
        lambda: ledger.record("test", Refusal(reason="hours")),
        lambda: approvals.decide(asked, "approved", "Dr Data"),
    ):
        with pytest.raises(LedgerError, match=r"No space left on device.*Make room on the disk"):
            act()
    with pytest.raises(SiteProblem, match="No space left on device"):
        prepare_start(started, "engineer")


def test_a_ledger_of_another_version_is_neither_read_nor_written(started):
    path = started.state / "ledger.jsonl"
    lines = path.read_text().splitlines()
    lines[-1] = json.dumps(json.loads(lines[-1]) | {"format": 2})
    path.write_text("\n".join(lines) + "\n")
    ledger = Ledger(path)
    for act in (ledger.read, lambda: ledger.record("test", Refusal(reason="hours"))):
        with pytest.raises(LedgerError, match="install the version that wrote them"):
            act()
    assert "install the version that wrote them" in visited(started)


def test_a_second_join_keeps_the_key_unless_it_is_told_to_make_another(tmp_path, invitation):
    """The coordinator may have admitted the first key; the site would be out without a word."""
    (tmp_path / "site.toml").write_text(SETTINGS)
    site = open_site(tmp_path, state=tmp_path / "state")
    request = join_federation(site, invitation, tmp_path / "a.request")
    key = (site.state / "node.key").read_bytes()
    again = join_federation(site, invitation, tmp_path / "a.request")
    assert (again.public_key, (site.state / "node.key").read_bytes()) == (request.public_key, key)
    other = invitation.model_copy(update={"id": "2" * 32})
    with pytest.raises(SiteProblem, match="out of the federation until"):
        join_federation(site, other, tmp_path / "a.request")
    assert (site.state / "node.key").read_bytes() == key
    (site.state / "membership.json").unlink()
    with pytest.raises(SiteProblem, match="--new-key"):
        join_federation(site, other, tmp_path / "a.request")
    renewed = join_federation(site, other, tmp_path / "a.request", new_key=True)
    assert renewed.public_key != request.public_key
