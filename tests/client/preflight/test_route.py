"""The way to a coordinator, over real sockets and real certificates."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.hospital import write_site
from typer.testing import CliRunner

from fedrad.client.cohort.checks import CheckResult, run_check
from fedrad.client.commands.main import app
from fedrad.client.preflight import machine
from fedrad.client.preflight import route as way
from fedrad.client.preflight.route import WAY_CHECKS, Way, try_way
from fedrad.client.settings import open_site
from fedrad.deploy.coordinator.authority import Authority

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextlib.contextmanager
def coordinator(
    folder: Path,
    *,
    names=("localhost", "127.0.0.1"),
    signed: datetime = NOW,
    clock: timedelta = timedelta(),
) -> Iterator[tuple[int, Path]]:
    """A TLS server; its port and its authority. `signed`: when its certificate was made."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", format_datetime(datetime.now(UTC) + clock, usegmt=True))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    folder.mkdir(exist_ok=True)
    authority = Authority(folder)
    certificate, key = folder / "server.pem", folder / "server.key"
    authority.server_certificate(certificate, key, names, now=signed)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), Health)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port, authority.certificate_file
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def results(found: Way) -> dict[str, CheckResult]:
    return {check.name: run_check(check, found) for check in WAY_CHECKS}


def faults(found: Way) -> dict[str, str]:
    """The checks that do not let a site go on, and what they say."""
    return {n: r.findings[0].text for n, r in results(found).items() if r.severity == "refused"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_coordinator_as_it_should_be_is_found_in_order(tmp_path, host):
    with coordinator(tmp_path) as (port, ca):
        found = try_way(host, port, ca)
    assert {r.severity for r in results(found).values()} == {"information"}
    assert found.addresses == ["127.0.0.1"] or "127.0.0.1" in found.addresses
    assert found.skew is not None
    assert abs(found.skew) < 2


def test_a_certificate_of_another_authority_is_not_trusted(tmp_path):
    other = Authority((tmp_path / "other").mkdir() or tmp_path / "other")
    with coordinator(tmp_path / "real") as (port, _):
        found = try_way("localhost", port, other.certificate_file)
    assert "not the invitation's authority's" in faults(found)["certificate"]
    assert found.skew is None  # nothing is asked of a stranger


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"signed": NOW - timedelta(days=500)}, "has expired"),
        ({"signed": NOW + timedelta(days=2)}, "not valid yet"),
        ({"names": ("fedrad.example.org",)}, "other names"),
    ],
)
def test_a_certificate_that_does_not_hold_is_told_by_its_fault(tmp_path, changes, why):
    with coordinator(tmp_path, **changes) as (port, ca):
        assert why in faults(try_way("localhost", port, ca))["certificate"]


def test_a_certificate_for_another_address_is_refused(tmp_path):
    with coordinator(tmp_path, names=("localhost",)) as (port, ca):
        assert "other addresses" in faults(try_way("127.0.0.1", port, ca))["certificate"]


def test_a_certificate_that_ends_soon_is_a_warning(tmp_path):
    with coordinator(tmp_path, signed=NOW - timedelta(days=390)) as (port, ca):
        assert results(try_way("localhost", port, ca))["certificate"].severity == "warning"


@pytest.mark.parametrize(
    ("clock", "severity"),
    [
        (timedelta(seconds=-60), "refused"),  # ours is a minute ahead
        (timedelta(seconds=-4), "warning"),
        (timedelta(seconds=60), "warning"),
        (timedelta(seconds=600), "refused"),
    ],
)
def test_a_clock_is_judged_by_what_the_coordinator_lets_pass(tmp_path, clock, severity):
    with coordinator(tmp_path, clock=clock) as (port, ca):
        assert results(try_way("localhost", port, ca))["clock"].severity == severity


def test_a_name_that_leads_nowhere(tmp_path):
    found = try_way("no-such-host.invalid", 8000, tmp_path / "ca.crt")
    assert set(faults(found)) == {"name of the coordinator"}
    assert results(found)["certificate"].findings[0].text.startswith("not tried")


def test_a_closed_port(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        found = try_way("127.0.0.1", closed.getsockname()[1], tmp_path / "ca.crt")
    assert "refused" in faults(found)["connection"]


def test_a_port_that_never_answers(tmp_path):
    ca = Authority(tmp_path).certificate_file
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        found = try_way("127.0.0.1", silent.getsockname()[1], ca, patience=0.5)
    assert "nothing was said for 0.5 s" in faults(found)["certificate"]
    assert time.monotonic() - started < 5


def test_something_else_behind_the_port(tmp_path):
    ca = Authority(tmp_path).certificate_file
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def answer() -> None:
            with contextlib.suppress(OSError):
                for _ in range(2):
                    peer, _address = other.accept()
                    peer.sendall(b"220 mail.example.org ESMTP\r\n" * 20)
                    peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        found = try_way("127.0.0.1", other.getsockname()[1], ca, patience=2)
        thread.join()
    assert "certificate" in faults(found)


def test_an_authority_that_is_none(tmp_path):
    (tmp_path / "ca.crt").write_text("nothing")
    with coordinator(tmp_path / "real") as (port, _):
        assert (
            "join again" in faults(try_way("localhost", port, tmp_path / "ca.crt"))["certificate"]
        )


def test_a_proxy_is_gone_through_and_named(tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with coordinator(tmp_path) as (port, ca):
            found = try_way("localhost", port, ca)
            assert results(found)["proxy"].severity == "warning"
            assert "connection" in faults(found)
            monkeypatch.setenv("NO_PROXY", "localhost")
            assert not faults(try_way("localhost", port, ca))


def test_the_numbers_of_flowers_tolerance_are_what_they_were():
    assert (way.AHEAD_SECONDS, way.BEHIND_SECONDS) == (5, 305)


# The whole command


def joined(folder: Path, address: str, ca: Path) -> Path:
    site = open_site(folder, state=folder / "state")
    site.state.mkdir()
    (site.state / "coordinator-ca.crt").write_bytes(ca.read_bytes())
    (site.state / "node.key").touch(mode=0o644)
    kept = {"site": site.name, "address": address, "invitation": "0" * 32}
    (site.state / "membership.json").write_text(json.dumps(kept))
    text = (folder / "site.toml").read_text()
    (folder / "site.toml").write_text('state = "state"\n' + text)
    return folder


def test_the_command_says_a_line_for_each_and_how_it_ends(tmp_path):
    with coordinator(tmp_path / "coordinator") as (port, ca):
        folder = joined(write_site(tmp_path / "site", 20), f"localhost:{port}", ca)
        shown = CliRunner().invoke(app, ["check", str(folder)])
        told = json.loads(CliRunner().invoke(app, ["check", str(folder), "--json"]).output)
    lines = shown.output.splitlines()
    for name in (
        "versions",
        "GPU",
        "disk",
        "policy",
        "proxy",
        "connection",
        "certificate",
        "clock",
    ):
        assert any(f" {name}: " in line for line in lines), name
    assert any("warning  private key" in line for line in lines)
    assert shown.exit_code == told["status"] >= 1
    assert {"certificate", "clock"} <= {r["name"] for r in told["results"]}
    shown = CliRunner().invoke(app, ["check", str(folder)])  # nobody is there any more
    assert shown.exit_code == 2
    assert any("failure  connection" in line for line in shown.output.splitlines())


@pytest.mark.parametrize(
    ("settings", "gpus", "driver", "severity"),
    [
        ('device = "cuda"', [], True, "refused"),
        ("", [], True, "warning"),
        ('device = "cpu"', [], True, "information"),
        ("", ["GPU, 24 GiB"], True, "information"),
        ("", [], False, "information"),
    ],
)
def test_a_gpu_that_is_wanted_and_not_seen_is_told(tmp_path, settings, gpus, driver, severity):
    (tmp_path / "site.toml").write_text(f'name = "a"\n{settings}\n')
    site = open_site(tmp_path, state=tmp_path / "state")
    versions = {"fedrad": "0.1.0", "flwr": "1.41.0"}
    found = machine.Machine(site, 16.0, 0.5, versions, "1.41", gpus=gpus, driver=driver)
    assert run_check(machine.GpuCheck(), found).severity == severity
    assert run_check(machine.DiskCheck(), found).severity == "refused"
    assert run_check(machine.MemoryCheck(), found).severity == "information"
    assert run_check(machine.VersionsCheck(), found).severity == "information"


def test_another_flower_than_fedrads_is_a_failure(tmp_path):
    (tmp_path / "site.toml").write_text('name = "a"\n')
    site = open_site(tmp_path, state=tmp_path / "state")
    assert machine.inspect_machine(site).wanted_flwr == "1.41"
    found = machine.Machine(site, None, 100, {"fedrad": "0.1.0", "flwr": "1.42.0"}, "1.41")
    assert run_check(machine.VersionsCheck(), found).severity == "refused"
