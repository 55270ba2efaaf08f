"""Certificates that a client of TLS accepts, and renewals without interruption."""

import asyncio
import socket
import ssl
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from fedrad.deploy.coordinator.authority import (
    RENEW_DAYS,
    SERVER_DAYS,
    Authority,
    certificate_names,
)
from fedrad.deploy.coordinator.folder import Coordinator
from fedrad.deploy.refused import Refused
from fedrad.flower import log_lines

NAMES = ["localhost", "127.0.0.1"]


@contextmanager
def server(certificate: Path, key: Path):
    """A TLS server on loopback that greets every client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def greet() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(plain, server_side=True) as speaking:
                        speaking.sendall(b"hello")
                except OSError:  # a client that did not like us
                    plain.close()

        threading.Thread(target=greet, daemon=True).start()
        yield listener.getsockname()[1], context


def greeting(port: int, authority: Path, name: str = "localhost") -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name) as speaking,
    ):
        return speaking.recv(5)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def make(authority: Authority, folder: Path, **given) -> tuple[Path, Path]:
    files = folder / "server.crt", folder / "server.key"
    authority.server_certificate(*files, given.pop("names", NAMES), **given)
    return files


def test_a_client_that_knows_the_authority_trusts_its_names_and_no_other(authority, tmp_path):
    with server(*make(authority, tmp_path)) as (port, _):
        for name in NAMES:
            assert greeting(port, authority.certificate_file, name) == b"hello"
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            greeting(port, authority.certificate_file, "coordinator.example.org")


def test_a_client_of_another_authority_does_not(authority, tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    with (
        server(*make(authority, tmp_path)) as (port, _),
        pytest.raises(
            ssl.SSLCertVerificationError, match=r"unable to get local issuer|self.signed"
        ),
    ):
        greeting(port, other.certificate_file)


def test_a_certificate_is_renewed_a_month_before_its_end_or_for_other_names(authority, tmp_path):
    files = tmp_path / "server.crt", tmp_path / "server.key"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert authority.server_certificate(*files, NAMES, now=now)
    month_before = now + timedelta(days=SERVER_DAYS - RENEW_DAYS)
    assert not authority.server_certificate(*files, NAMES, now=month_before - timedelta(days=2))
    assert authority.server_certificate(*files, NAMES, now=month_before + timedelta(days=1))
    assert authority.server_certificate(*files, ["localhost"], now=month_before)
    assert certificate_names(files[0]) == {"localhost"}


def test_a_node_that_meets_another_authority_is_reported_in_the_sites_log(authority, tmp_path):
    """Flower's node ends with the text of httpx's exception, which has OpenSSL's words."""
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    known = ssl.create_default_context(cafile=str(other.certificate_file))
    with (
        server(*make(authority, tmp_path)) as (port, _),
        pytest.raises(httpx.ConnectError) as error,
    ):
        httpx.get(f"https://localhost:{port}", verify=known, trust_env=False)
    assert log_lines.OTHER_CERTIFICATE.matches(str(error.value))


def test_a_renewed_certificate_is_trusted_by_those_who_were_invited_before(authority, tmp_path):
    old = make(authority, tmp_path, now=datetime.now(UTC) - timedelta(days=SERVER_DAYS - 5))
    with server(*old) as (port, context):
        assert greeting(port, authority.certificate_file) == b"hello"
        make(authority, tmp_path)
        context.load_cert_chain(*old)  # as the SuperLink does it, without a restart
        assert greeting(port, authority.certificate_file) == b"hello"


def test_the_superlink_takes_up_a_renewed_certificate_while_it_runs(
    authority, tmp_path, monkeypatch
):
    from fedrad.flower import hospital_listener
    from fedrad.flower.hospital_listener import HospitalAddress, HospitalListener

    monkeypatch.setattr(hospital_listener, "CHECK_SECONDS", 0.05)
    files = make(authority, tmp_path, names=["old.example"])
    listener = HospitalListener(lambda: None, HospitalAddress("127.0.0.1", 8000, *files))
    listener.config.load()
    loaded = []
    monkeypatch.setattr(listener.config.ssl, "load_cert_chain", lambda *given: loaded.append(given))

    async def renew() -> None:
        task = asyncio.create_task(listener.reload_certificate())
        await asyncio.sleep(0.2)
        assert not loaded
        make(authority, tmp_path, names=["new.example"])
        await asyncio.sleep(0.2)
        task.cancel()

    asyncio.run(renew())
    assert loaded == [files]


def test_private_keys_are_their_owners(authority, tmp_path):
    make(authority, tmp_path)
    for key in tmp_path.glob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.glob("*.key"))) == 2


def test_a_coordinator_keeps_its_authority_and_address_from_start_to_start(tmp_path):
    coordinator = Coordinator(tmp_path / "c")
    first = coordinator.set_up("localhost:8000", listen="0.0.0.0", names=["10.0.0.7"], own=None)
    before = {file.name: file.read_bytes() for file in (tmp_path / "c").iterdir()}
    again = coordinator.set_up(None, listen="0.0.0.0", names=[], own=None)
    assert again == first
    assert {file.name: file.read_bytes() for file in (tmp_path / "c").iterdir()} == before
    assert certificate_names(tmp_path / "c" / "server.crt") == {
        "localhost",
        "10.0.0.7",
        "127.0.0.1",
    }


def test_own_certificates_take_the_place_of_fedrads_if_they_are_for_its_name(authority, tmp_path):
    certificate, key = make(authority, tmp_path, names=["coordinator.example.org"])
    own = (certificate, key, authority.certificate_file)
    coordinator = Coordinator(tmp_path / "c")
    settings = coordinator.set_up(
        "coordinator.example.org:8000", listen="0.0.0.0", names=[], own=own
    )
    assert settings.certificate == certificate.resolve()
    assert not (tmp_path / "c" / "server.crt").exists()
    invitation = coordinator.invite("a", tmp_path / "a.invitation", days=1)
    assert invitation.ca_certificate == authority.certificate_file.read_text()
    with pytest.raises(Refused, match="hospitals will look for"):
        Coordinator(tmp_path / "d").set_up("other:8000", listen="::", names=[], own=own)
    with pytest.raises(Refused, match="no such file"):
        Coordinator(tmp_path / "d").set_up(
            "other:8000", listen="::", names=[], own=(certificate, key, tmp_path / "none")
        )
