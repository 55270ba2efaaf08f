"""`fedrad serve`: who is let in and turned away, and when it does not start."""

import json
import os
import socket
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from fedrad.client.policy.membership import join_federation
from fedrad.client.settings import open_site
from fedrad.deploy.commands.main import app
from fedrad.deploy.coordinator import serve as serve_module
from fedrad.deploy.coordinator.folder import Coordinator
from fedrad.deploy.coordinator.serve import reconcile, serve
from fedrad.deploy.refused import Refused
from fedrad.flower.control import key_bytes
from fedrad.flower.local_socket import SocketError
from fedrad.system.ports import free_port


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    here = Coordinator(tmp_path / "coordinator")
    here.set_up(f"localhost:{free_port()}", listen="127.0.0.1", names=[], own=None)
    return here


class Nodes:
    """The nodes of a SuperLink, which like Flower's refuses a key that it has unregistered."""

    def __init__(self) -> None:
        self.registered: dict[bytes, int] = {}
        self.gone: set[bytes] = set()

    def nodes(self) -> dict[bytes, tuple[int, str]]:
        return {key: (node, "online") for key, node in self.registered.items()}

    def register(self, public_key: bytes, name: str) -> int:
        if public_key in self.gone:
            request = httpx.Request("POST", "https://127.0.0.1")
            raise httpx.HTTPStatusError("", request=request, response=httpx.Response(409))
        self.registered[public_key] = 1 + len(self.registered) + len(self.gone)
        return self.registered[public_key]

    def unregister(self, node: int) -> None:
        (key,) = (key for key, number in self.registered.items() if number == node)
        del self.registered[key]
        self.gone.add(key)


def admit(coordinator: Coordinator, tmp_path: Path, name: str) -> bytes:
    """Let a site join; returns its public key."""
    (tmp_path / name).mkdir()
    site = open_site(tmp_path / name, name=name, state=tmp_path / f"state-{name}")
    invitation = coordinator.invite(name, tmp_path / f"{name}.invitation", days=1)
    join_federation(site, invitation, tmp_path / f"{name}.request")
    request = coordinator.read_request(tmp_path / f"{name}.request")
    coordinator.admit(request)
    return key_bytes(request.public_key)


def test_a_lost_list_of_members_turns_no_site_away(coordinator, tmp_path):
    admit(coordinator, tmp_path, "a")
    nodes = Nodes()
    reconcile(nodes, coordinator)
    held = coordinator.members_file.read_bytes()
    coordinator.members_file.unlink()
    for use in (
        lambda: reconcile(nodes, coordinator),
        lambda: coordinator.set_up(None, listen="127.0.0.1", names=[], own=None),
    ):
        with pytest.raises(Refused, match=r"members\.json: is missing; restore it from a backup"):
            use()
    assert len(nodes.registered) == 1
    assert not coordinator.members_file.exists()
    coordinator.members_file.write_bytes(held)
    assert reconcile(nodes, coordinator) == []


def test_a_key_that_flower_does_not_accept_again_does_not_keep_other_sites_out(
    coordinator, tmp_path
):
    nodes = Nodes()
    nodes.gone.add(admit(coordinator, tmp_path, "a"))
    key = admit(coordinator, tmp_path, "b")
    (fault,) = reconcile(nodes, coordinator)
    assert fault.startswith("a cannot be let in: Flower does not accept its key (HTTP 409)")
    assert "`fedrad sites revoke a` and invite it again" in fault
    assert set(nodes.registered) == {key}
    assert [m.node for m in coordinator.members().admitted()] == [None, nodes.registered[key]]


def test_the_log_names_the_site_that_is_turned_away(coordinator, tmp_path, caplog):
    caplog.set_level("INFO", "fedrad.server")
    nodes = Nodes()
    admit(coordinator, tmp_path, "a")
    nodes.register(b"a key that no member has", "")
    reconcile(nodes, coordinator)
    coordinator.revoke("a")
    reconcile(nodes, coordinator)
    lines = [m for m in caplog.messages if "turned away" in m]
    assert [m.partition(" is ")[0] for m in lines] == ["node 1", "a"]
    assert not nodes.registered


# A SuperLink that does not start


@pytest.fixture
def superlink(monkeypatch):
    """Makes `fedrad serve` start a line of Python in place of the SuperLink."""
    monkeypatch.setattr(serve_module, "RESTART_SECONDS", (0.01, 0.01))

    def start_instead(line: str) -> None:
        monkeypatch.setattr(serve_module, "PROGRAM", (sys.executable, "-c", line))

    return start_instead


def test_a_part_of_flower_that_moved_ends_the_command_with_its_sentence(coordinator, superlink):
    superlink(
        "from fedrad.flower.internals import FlowerMovedError as E; raise E('flwr.a has no b')"
    )
    with pytest.raises(Refused, match=r"^flwr \S+: flwr\.a has no b\. fedrad was tested with"):
        serve(coordinator, coordinator.settings())
    log = (coordinator.folder / "logs" / "superlink.log").read_text()
    assert log.count("has no b") == 1, "started once"


def test_a_superlink_that_never_answers_ends_the_command(coordinator, superlink, caplog):
    superlink("print('no room'); raise SystemExit(3)")
    with pytest.raises(Refused, match=r"ended 3 times .*superlink\.log says why.* no room"):
        serve(coordinator, coordinator.settings())
    assert len([m for m in caplog.messages if "started again" in m]) == 2


# A start that is refused


def contents(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir() if not f.name.endswith(".lock")}


def test_a_start_at_a_port_that_is_taken_changes_no_file(coordinator):
    before = contents(coordinator.folder)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"elsewhere.example.org:{other.getsockname()[1]}"
        command = ["serve", "--address", address, "--listen", "127.0.0.1"]
        ended = CliRunner().invoke(app, [*command, "--coordinator", str(coordinator.folder)])
    assert ended.exit_code == 2
    assert "cannot be had" in ended.output
    assert contents(coordinator.folder) == before


def test_a_second_start_with_one_folder_is_refused_and_changes_no_file(coordinator):
    command = ["serve", "--address", f"elsewhere.example.org:{free_port()}"]
    with coordinator.serving():
        coordinator.note_serving()
        before = contents(coordinator.folder)
        ended = CliRunner().invoke(app, [*command, "--coordinator", str(coordinator.folder)])
    assert ended.exit_code == 2
    assert f"{coordinator.folder}: another `fedrad serve` is running" in ended.output
    assert f"(process {os.getpid()}, since " in ended.output
    assert contents(coordinator.folder) == before


# What an earlier start or version left


def test_a_start_without_an_address_to_listen_at_keeps_the_one_of_before(coordinator):
    again = coordinator.set_up(None, listen=None, names=[], own=None)
    assert again.listen == "127.0.0.1"


def test_a_folder_of_an_earlier_version_is_read_and_its_port_on_loopback_goes(coordinator):
    file = coordinator.folder / "coordinator.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"control_port": 12345}))
    left = [coordinator.folder / name for name in ("control.crt", "control.key")]
    for old in left:
        old.write_text("")
    coordinator.set_up(None, listen=None, names=[], own=None)
    assert "control_port" not in file.read_text()
    assert not any(old.exists() for old in left)


def test_a_folder_that_others_can_enter_is_refused_with_the_command_that_mends_it(coordinator):
    coordinator.folder.chmod(0o755)
    with pytest.raises(SocketError, match=f"chmod 700 {coordinator.folder}"):
        serve(coordinator, coordinator.settings())
