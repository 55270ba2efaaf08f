"""Connections of strangers: they are few, end soon, and hospitals connect beside them."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from fedrad.deploy.coordinator.authority import Authority
from fedrad.flower import hospital_connections
from fedrad.flower.hospital_connections import VERIFIED
from fedrad.flower.hospital_listener import HospitalAddress, HospitalListener
from fedrad.system.ports import free_port

WAIT = 30.0
ASK = b"GET /health HTTP/1.1\r\nhost: here\r\n\r\n"


async def app(scope, receive, send) -> None:
    """Answers each request; those of a path below `/of/` are a member's."""
    if scope["path"].startswith("/of/"):
        scope["state"][VERIFIED](scope["path"])
    size = int(scope["path"].rpartition("/")[2]) if "large" in scope["path"] else 2
    headers = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * size})


class Listener:
    """A listener for hospitals on loopback, in a thread."""

    def __init__(self, folder) -> None:
        authority = Authority(folder)
        certificate, key = folder / "server.crt", folder / "server.key"
        authority.server_certificate(certificate, key, ["localhost", "127.0.0.1"])
        self.port = free_port()
        self.server = HospitalListener(
            app, HospitalAddress("127.0.0.1", self.port, certificate, key)
        )
        self.trust = ssl.create_default_context(cafile=str(authority.certificate_file))

    def connect(self, *, tls: bool = True, takes: int | None = None) -> socket.socket:
        plain = socket.socket()
        plain.settimeout(WAIT)
        if takes is not None:  # bytes that this end's system receives unread
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, takes)
        plain.connect(("127.0.0.1", self.port))
        return self.trust.wrap_socket(plain, server_hostname="localhost") if tls else plain

    def held(self) -> int:
        return len(self.server._connections._open)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()), daemon=True)
        thread.start()
        end = time.monotonic() + WAIT
        while not self.server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        try:
            yield
        finally:
            self.server.should_exit = True
            thread.join(WAIT)


@pytest.fixture
def limits(monkeypatch):
    for name, value in {
        "HANDSHAKE_SECONDS": 0.7,
        "HEADER_SECONDS": 0.7,
        "IDLE_SECONDS": 1,
        "END_SECONDS": 0.3,
        "MOST_CONNECTIONS": 12,
        "MOST_OF_ONE_ADDRESS": 8,
        "MOST_OF_ONE_KEY": 3,
        "SLOWEST": 100_000,
    }.items():
        monkeypatch.setattr(hospital_connections, name, value)


@pytest.fixture
def listener(tmp_path, limits) -> Iterator[Listener]:
    one = Listener(tmp_path)
    with one.running():
        yield one


def ended(connection: socket.socket) -> bytes:
    """What comes before the other end closes the connection."""
    came = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while part := connection.recv(65536):
            came += part
    return came


def answered(connection: socket.socket, path: str = "/health") -> bool:
    """Whether a request gets its answer on a connection."""
    try:
        connection.sendall(ASK.replace(b"/health", path.encode()))
        came = b""
        while part := connection.recv(65536):
            came += part
            if came.endswith(b"\r\n\r\nxx"):
                return b"200 OK" in came
        return False
    except (ConnectionError, ssl.SSLError):
        return False


def test_requests_on_one_connection_are_answered(listener):
    with listener.connect() as connection:
        assert all(answered(connection) for _ in range(5))
        assert listener.held() == 1
    end = time.monotonic() + WAIT
    while listener.held() and time.monotonic() < end:
        time.sleep(0.01)
    assert listener.held() == 0


@pytest.mark.parametrize(
    ("tls", "sent"),
    [
        (False, b""),
        (False, b"\x16\x03\x01\x02"),
        (False, b"GET / HTTP/1.1\r\n\r\n"),
        (True, b""),
        (True, b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: here\r\nx"),
        (True, ASK),
        (True, ASK + b"GET"),
    ],
    ids=[
        "no TLS handshake",
        "half of one",
        "no TLS",
        "no request",
        "half of the headers",
        "nothing after an answer",
        "half a second request",
    ],
)
def test_who_says_no_more_is_let_go(listener, tls, sent):
    with listener.connect(tls=tls) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        ended(connection)
        assert time.monotonic() - began < 10
    assert answered(listener.connect())


@pytest.mark.parametrize("first", [b"", ASK], ids=["headers", "after an answer"])
def test_one_byte_at_a_time_gains_no_time(listener, first):
    with listener.connect() as connection, contextlib.suppress(ConnectionError, ssl.SSLError):
        connection.sendall(first)
        for number in range(200):
            connection.sendall(b"GET / HTTP/1.1\r\n"[number : number + 1] or b"x")
            time.sleep(0.05)
        pytest.fail("still open after 10 s")


@pytest.mark.parametrize("size", [20_000, 2_000_000])
def test_large_headers_are_not_kept(listener, size):
    with listener.connect() as connection:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(b"GET /health HTTP/1.1\r\nx: " + b"x" * size)
        assert b"200" not in ended(connection)


def test_strangers_make_room_for_others(listener):
    """At an address that is full, whoever has shown no signature is let go, the oldest first."""
    member = listener.connect()
    assert answered(member, "/of/a")
    strangers = [listener.connect(tls=False) for _ in range(40)]
    assert answered(member, "/of/a"), "a member's connection stays"
    assert answered(listener.connect(), "/of/b"), "and another member finds room"
    assert listener.held() <= 8
    for stranger in strangers:
        stranger.close()


def test_one_member_has_few_connections(listener):
    of_a = [listener.connect() for _ in range(5)]
    for connection in of_a:
        assert answered(connection, "/of/a")
    assert not answered(of_a[0], "/of/a")
    assert not answered(of_a[1], "/of/a")
    assert answered(of_a[4], "/of/a")
    assert answered(listener.connect(), "/of/b")


def test_an_answer_that_is_not_read_is_let_go_and_one_that_is_read_slowly_is_not(listener):
    path = b"/large/4000000"
    deaf = listener.connect(takes=65536)
    deaf.sendall(ASK.replace(b"/health", path))
    slow = listener.connect(takes=65536)
    slow.sendall(ASK.replace(b"/health", path))
    came, began = 0, time.monotonic()
    while came < 4_000_000:
        part = slow.recv(500_000)
        assert part, f"cut off after {came} bytes"
        came += len(part)
        time.sleep(0.05 if time.monotonic() - began < 4 else 0)
    end = time.monotonic() + WAIT
    while listener.held() > 1 and time.monotonic() < end:
        time.sleep(0.05)
    assert listener.held() <= 1
    deaf.close()
