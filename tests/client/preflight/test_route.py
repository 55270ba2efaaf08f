"""The route to a coordinator is checked over real sockets and with real certificates."""

import contextlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.hospital import write_site
from support.proxy import proxy
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
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def server_context(folder: Path, names: Sequence[str], signed: datetime = NOW) -> ssl.SSLContext:
    """A server's certificate of the authority in a folder."""
    certificate, key = folder / "server.pem", folder / "server.key"
    Authority(folder).server_certificate(certificate, key, names, now=signed)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


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
    context = server_context(folder, names, signed)
    server = HTTPServer(("127.0.0.1", 0), Health)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port, Authority(folder).certificate_file
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
    assert route.address == "127.0.0.1"
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


# Through a proxy. `coordinator.invalid` is a name that only the proxy knows.

HOST = "coordinator.invalid"


def test_a_working_proxy_leads_to_a_coordinator_whose_name_only_it_knows(tmp_path, monkeypatch):
    with coordinator(tmp_path, names=(HOST,)) as (port, ca), proxy() as there:
        assert set(faults(try_route(HOST, port, ca))) == {"name of the coordinator"}
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{there.port}")
        route = try_route(HOST, port, ca)
    assert {r.severity for r in results(route).values()} == {"information"}
    assert there.asked == [f"{HOST}:{port}"]
    shown = results(route)["proxy"].findings[0].text
    assert shown == f"the way leads through https_proxy=http://127.0.0.1:{there.port}"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("403", "answers 403 Forbidden to CONNECT coordinator.invalid:8000: ask for "),
        ("407", "it wants a name and a password: http://NAME:PASSWORD@HOST:PORT"),
        ("502", "answers 502 Bad Gateway to CONNECT coordinator.invalid:8000: it does not reach"),
        ("silent", "answers nothing to CONNECT coordinator.invalid:8000: ask for "),
        ("closes", "gives no proxy's answer to CONNECT coordinator.invalid:8000"),
        ("no proxy", "gives no proxy's answer to CONNECT coordinator.invalid:8000"),
    ],
)
def test_what_a_proxy_does_is_said_in_the_words_of_the_settings(tmp_path, monkeypatch, kind, why):
    ca = Authority(tmp_path).certificate_file
    with proxy(kind) as there:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{there.port}")
        route = try_route(HOST, 8000, ca, patience=0.5)
    assert set(faults(route)) == {"proxy"}, "not the coordinator's certificate"
    text = faults(route)["proxy"]
    assert text.startswith(f"HTTPS_PROXY=http://127.0.0.1:{there.port} ")
    assert why in text
    assert results(route)["certificate"].findings[0].text.startswith("not tried")


def test_a_proxy_that_is_not_there_or_has_no_address_is_named(tmp_path, monkeypatch):
    ca = Authority(tmp_path).certificate_file
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", url)
        route = try_route(HOST, 8000, ca)
    assert faults(route) == {"connection": f"HTTPS_PROXY={url}: Connection refused"}
    assert results(route)["proxy"].severity == "warning"
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:8080")
    fault = faults(try_route(HOST, 8000, ca))["name of the coordinator"]
    assert fault.startswith("HTTPS_PROXY=http://proxy.invalid:8080 has no address here")


def test_name_and_password_reach_the_proxy_and_no_text(tmp_path, monkeypatch):
    with (
        coordinator(tmp_path, names=(HOST,)) as (port, ca),
        proxy(user="radiology:p@ss/#1") as there,
    ):
        place = f"127.0.0.1:{there.port}"
        for given in ("radiology:p@ss/#1", "radiology:p%40ss%2F%231"):
            monkeypatch.setenv("HTTPS_PROXY", f"http://{given}@{place}")
            route = try_route(HOST, port, ca)
            assert not faults(route)
            assert "(its user is left out)" in str(route)
            assert "radiology" not in str(route)
        monkeypatch.setenv("HTTPS_PROXY", f"http://radiology:wrong@{place}")
        fault = faults(try_route(HOST, port, ca))["proxy"]
    assert "it does not accept the name and the password that are given" in fault
    assert "wrong" not in fault
    assert "radiology" not in fault


def test_a_proxy_that_opens_tls_is_named_beside_the_certificate(tmp_path, monkeypatch):
    own, real = tmp_path / "proxy", tmp_path / "real"
    own.mkdir()
    real.mkdir()
    tls = server_context(own, (HOST,))
    with proxy("opens TLS", tls=tls) as there:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{there.port}")
        route = try_route(HOST, 8000, Authority(real).certificate_file)
    text = faults(route)["certificate"]
    assert "not the invitation's authority's" in text
    assert f"HTTPS_PROXY=http://127.0.0.1:{there.port}, which may open TLS" in text


def test_a_proxy_that_is_itself_reached_over_tls(tmp_path, monkeypatch):
    own, real = tmp_path / "proxy", tmp_path / "real"
    own.mkdir()
    tls = server_context(own, ("127.0.0.1",))
    with coordinator(real, names=(HOST,)) as (port, ca), proxy(tls=tls) as there:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{there.port}")
        fault = faults(try_route(HOST, port, ca))["proxy"]
        assert "this machine does not trust" in fault
        assert "SSL_CERT_FILE" in fault
        monkeypatch.setenv("SSL_CERT_FILE", str(Authority(own).certificate_file))
        assert not faults(try_route(HOST, port, ca))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{there.port}")
        assert "gives no proxy's answer" in faults(try_route(HOST, port, ca))["proxy"]
    with proxy("no proxy") as plain:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{plain.port}")
        assert "http:// may be meant" in faults(try_route(HOST, 8000, ca))["proxy"]


def test_a_coordinator_on_this_machine_or_in_no_proxy_is_reached_directly(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:8080")
    with coordinator(tmp_path) as (port, ca):
        assert not faults(try_route("localhost", port, ca))
    monkeypatch.setenv("NO_PROXY", "other.example, .invalid")
    route = try_route(HOST, 8000, ca)
    assert faults(route)["name of the coordinator"].startswith(f"{HOST}:8000 has no address")
    assert results(route)["proxy"].findings[0].text == "none is used"


def test_settings_that_have_no_meaning_are_named(tmp_path, monkeypatch):
    ca = Authority(tmp_path).certificate_file
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:8080")
    found = results(try_route(HOST, 8000, ca))["proxy"].findings
    assert [f.text for f in found] == [
        "none is used; HTTP_PROXY is not for TLS, HTTPS_PROXY would be"
    ]
    monkeypatch.setenv("HTTPS_PROXY", "proxy")
    monkeypatch.setenv("NO_PROXY", "*.example.org,127.0.0.1")
    found = results(try_route(HOST, 8000, ca))["proxy"].findings
    assert [f.severity for f in found] == ["refused", None]
    assert "HTTPS_PROXY=proxy: it names no port" in found[0].text
    assert "NO_PROXY: '*.example.org' is not understood" in found[1].text


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
    assert "Refused. What is wrong with this machine or the route is said above" in shown.output


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
