"""The route to a coordinator is checked over real sockets and with real certificates."""

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
from fedrad.client.preflight import route as route_module
from fedrad.client.preflight.route import ROUTE_CHECKS, Route, try_route
from fedrad.client.settings import open_site
from fedrad.deploy.coordinator.authority import Authority
from fedrad.system.files import write_whole
from fedrad.system.folders import make_folder

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


def results(route: Route) -> dict[str, CheckResult]:
    return {check.name: run_check(check, route) for check in ROUTE_CHECKS}


def faults(route: Route) -> dict[str, str]:
    """Text of each check that refuses."""
    return {n: r.findings[0].text for n, r in results(route).items() if r.severity == "refused"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_sound_coordinator_passes_every_check(tmp_path, host):
    with coordinator(tmp_path) as (port, ca):
        route = try_route(host, port, ca)
    assert {r.severity for r in results(route).values()} == {"information"}
    assert route.addresses == ["127.0.0.1"] or "127.0.0.1" in route.addresses
    assert route.skew is not None
    assert abs(route.skew) < 2


def test_a_certificate_of_another_authority_is_not_trusted(tmp_path):
    other = Authority((tmp_path / "other").mkdir() or tmp_path / "other")
    with coordinator(tmp_path / "real") as (port, _):
        route = try_route("localhost", port, other.certificate_file)
    assert "not the invitation's authority's" in faults(route)["certificate"]
    assert route.skew is None  # no request is sent to an unknown server


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"signed": NOW - timedelta(days=500)}, "has expired"),
        ({"signed": NOW + timedelta(days=2)}, "not valid yet"),
        ({"names": ("fedrad.example.org",)}, "other names"),
    ],
)
def test_a_certificate_that_is_not_valid_is_named_with_its_fault(tmp_path, changes, why):
    with coordinator(tmp_path, **changes) as (port, ca):
        assert why in faults(try_route("localhost", port, ca))["certificate"]


def test_a_certificate_for_another_address_is_refused(tmp_path):
    with coordinator(tmp_path, names=("localhost",)) as (port, ca):
        assert "other addresses" in faults(try_route("127.0.0.1", port, ca))["certificate"]


def test_a_certificate_that_ends_soon_is_a_warning(tmp_path):
    with coordinator(tmp_path, signed=NOW - timedelta(days=390)) as (port, ca):
        assert results(try_route("localhost", port, ca))["certificate"].severity == "warning"


@pytest.mark.parametrize(
    ("clock", "severity"),
    [
        (timedelta(seconds=-60), "refused"),  # ours is a minute ahead
        (timedelta(seconds=-4), "warning"),
        (timedelta(seconds=60), "warning"),
        (timedelta(seconds=600), "refused"),
    ],
)
def test_a_clock_is_judged_by_the_tolerance_of_the_coordinator(tmp_path, clock, severity):
    with coordinator(tmp_path, clock=clock) as (port, ca):
        assert results(try_route("localhost", port, ca))["clock"].severity == severity


def test_a_name_without_an_address(tmp_path):
    route = try_route("no-such-host.invalid", 8000, tmp_path / "ca.crt")
    assert set(faults(route)) == {"name of the coordinator"}
    assert results(route)["certificate"].findings[0].text.startswith("not tried")


def test_a_closed_port(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        route = try_route("127.0.0.1", closed.getsockname()[1], tmp_path / "ca.crt")
    assert "refused" in faults(route)["connection"]


def test_a_port_that_never_answers(tmp_path):
    ca = Authority(tmp_path).certificate_file
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        route = try_route("127.0.0.1", silent.getsockname()[1], ca, patience=0.5)
    assert "nothing was said for 0.5 s" in faults(route)["certificate"]
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
        route = try_route("127.0.0.1", other.getsockname()[1], ca, patience=2)
        thread.join()
    assert "certificate" in faults(route)


def test_a_file_that_is_no_authority(tmp_path):
    (tmp_path / "ca.crt").write_text("nothing")
    with coordinator(tmp_path / "real") as (port, _):
        assert (
            "join again" in faults(try_route("localhost", port, tmp_path / "ca.crt"))["certificate"]
        )


def test_a_proxy_is_used_and_named(tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with coordinator(tmp_path) as (port, ca):
            route = try_route("localhost", port, ca)
            assert results(route)["proxy"].severity == "warning"
            assert "connection" in faults(route)
            monkeypatch.setenv("NO_PROXY", "localhost")
            assert not faults(try_route("localhost", port, ca))


def test_the_numbers_of_flowers_tolerance_are_what_they_were():
    assert (route_module.AHEAD_SECONDS, route_module.BEHIND_SECONDS) == (5, 305)


# The whole command


def joined(folder: Path, address: str, ca: Path) -> Path:
    site = open_site(folder, state=folder / "state")
    make_folder(site.state)
    write_whole(site.state / "coordinator-ca.crt", ca.read_bytes())
    write_whole(site.state / "node.key", "")
    membership = {"site": site.name, "address": address, "invitation": "0" * 32}
    write_whole(site.state / "membership.json", json.dumps(membership))
    text = (folder / "site.toml").read_text()
    (folder / "site.toml").write_text('state = "state"\n' + text)
    return folder


def test_the_command_prints_a_line_for_each_check_and_the_result(tmp_path):
    with coordinator(tmp_path / "coordinator") as (port, ca):
        folder = joined(write_site(tmp_path / "site", 20), f"localhost:{port}", ca)
        shown = CliRunner().invoke(app, ["check", str(folder)])
        report = json.loads(CliRunner().invoke(app, ["check", str(folder), "--json"]).output)
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
    assert shown.exit_code == report["status"] >= 1
    assert {"certificate", "clock"} <= {r["name"] for r in report["results"]}
    shown = CliRunner().invoke(app, ["check", str(folder)])  # the server has stopped
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
def test_a_gpu_that_is_wanted_and_missing_is_reported(tmp_path, settings, gpus, driver, severity):
    (tmp_path / "site.toml").write_text(f'name = "a"\n{settings}\n')
    site = open_site(tmp_path, state=tmp_path / "state")
    versions = {"fedrad": "0.1.0", "flwr": "1.42.0"}
    this_machine = machine.Machine(site, 16.0, 0.5, versions, "1.42", gpus=gpus, driver=driver)
    assert run_check(machine.GpuCheck(), this_machine).severity == severity
    assert run_check(machine.DiskCheck(), this_machine).severity == "refused"
    assert run_check(machine.MemoryCheck(), this_machine).severity == "information"
    assert run_check(machine.VersionsCheck(), this_machine).severity == "information"


def test_another_flower_than_fedrads_is_a_failure(tmp_path):
    (tmp_path / "site.toml").write_text('name = "a"\n')
    site = open_site(tmp_path, state=tmp_path / "state")
    assert machine.inspect_machine(site).wanted_flwr == "1.42"
    this_machine = machine.Machine(site, None, 100, {"fedrad": "0.1.0", "flwr": "1.43.0"}, "1.42")
    assert run_check(machine.VersionsCheck(), this_machine).severity == "refused"
