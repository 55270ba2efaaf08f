"""A site has the name under which it was admitted, and the coordinator's minor version."""

from datetime import UTC, datetime

import pytest
from flwr.app import Message
from support.hospital import SHORT, write_site
from typer.testing import CliRunner

from fedrad.client.app import app as client_app
from fedrad.deploy.commands.main import app
from fedrad.exchange.messages import (
    READY,
    Readiness,
    ReadyRequest,
    Refusal,
    reply_from_record,
    same_minor,
    to_record,
)
from fedrad.flower.grid import InProcessGrid
from fedrad.server.experiment import run_experiment
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.server.federation.members import Member, Members, MembersError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def member(site: str, node: int, status: str = "admitted") -> Member:
    return Member(
        site=site,
        invitation=f"{node:032x}",
        invited=NOW,
        expires=NOW,
        since=NOW,
        status=status,
        node=node,
    )


@pytest.fixture
def grid(tmp_path):
    nodes = [
        {"folder": str(write_site(tmp_path / n, 30, seed=s)), "state": str(tmp_path / "state" / n)}
        for s, n in enumerate("ab")
    ]
    return InProcessGrid(client_app, nodes, {"experiment": SHORT})


def test_a_node_with_another_name_than_it_was_admitted_under_does_not_take_part(grid, tmp_path):
    """The node of hospital b was admitted under another name."""
    file = tmp_path / "members.json"
    file.write_text(Members(sites=[member("a", 1), member("c", 2)]).model_dump_json())
    with pytest.raises(ExperimentFailed, match="c: calls itself 'b'"):
        run_experiment(grid, SHORT, tmp_path / "out", wait_seconds=0.0, members=file)


def test_a_node_that_was_revoked_does_not_take_part(grid, tmp_path):
    file = tmp_path / "members.json"
    sites = [member("a", 1), member("b", 2, "revoked")]
    file.write_text(Members(sites=sites).model_dump_json())
    with pytest.raises(ExperimentFailed, match="node 2: calls itself 'b'"):
        run_experiment(grid, SHORT, tmp_path / "out", wait_seconds=0.0, members=file)


def test_admitted_sites_under_their_names_take_part(grid, tmp_path):
    file = tmp_path / "members.json"
    file.write_text(Members(sites=[member("a", 1), member("b", 2)]).model_dump_json())
    summary = run_experiment(grid, SHORT, tmp_path / "out", wait_seconds=0.0, members=file)
    assert summary.status == "completed"


@pytest.mark.parametrize("command", [["admit", "a.request"], ["revoke", "a"]])
def test_the_coordinators_folder_is_accepted_before_and_after_the_command(tmp_path, command):
    where = ["--coordinator", str(tmp_path / "none")]
    after = CliRunner().invoke(app, ["sites", *command, *where])
    before = CliRunner().invoke(app, ["sites", *where, *command])
    assert after.exit_code == before.exit_code == 2
    assert after.output == before.output
    assert "no coordinator here" in after.output


def test_a_damaged_list_of_members_is_an_error_that_says_what_to_do(tmp_path):
    file = tmp_path / "members.json"
    file.write_text('{"sites": [{"site": "../x"}]}')
    with pytest.raises(MembersError, match="restore it from a backup"):
        Members.read(file)
    with pytest.raises(MembersError), Members.changed(file):
        raise AssertionError("not reached")
    assert "../x" in file.read_text(), "left as it was"


def test_a_missing_list_of_members_is_not_an_empty_one(tmp_path):
    file = tmp_path / "members.json"
    with pytest.raises(MembersError, match="is missing; restore it from a backup"):
        Members.read(file)
    with pytest.raises(MembersError, match="is missing"), Members.changed(file):
        raise AssertionError("not reached")
    assert not file.exists()


@pytest.mark.parametrize(
    ("theirs", "answer"), [("0.1.0", Readiness), ("0.1.7", Readiness), ("0.2.0", Refusal)]
)
def test_a_site_of_another_minor_version_says_so_before_any_work(grid, tmp_path, theirs, answer):
    sent = Message(to_record(ReadyRequest(fedrad=theirs)), 1, READY.name)
    (reply,) = grid.send_and_receive([sent])
    decoded, _ = reply_from_record(reply.content, Readiness)
    assert isinstance(decoded, answer)
    if answer is Refusal:
        assert decoded.reason == "version"
        assert not (tmp_path / "state" / "a" / "images").exists(), "no image was read"


def test_versions_are_compared_by_their_first_two_numbers():
    assert same_minor("1.2.3", "1.2.0")
    assert not same_minor("1.2.3", "1.20.3")
    assert not same_minor("1.2", "2.2")
