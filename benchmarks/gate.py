"""What strangers cost the coordinator at its port for hospitals, and what a signature costs.

    python benchmarks/gate.py

Starts a SuperLink as `fedrad serve` does, in a temporary folder, with one admitted hospital, and
attacks it over loopback: large headers, unfinished bodies, half-sent requests. For each attack: the
memory of the SuperLink before and at its largest, how many connections are left after 20 s, and the
time of an honest node's request beside it. Works with an older version of fedrad, too, whose nodes
sign only as Flower does.
"""

import contextlib
import os
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from fedrad.client.policy.membership import join_federation, read_membership
from fedrad.client.settings import open_site
from fedrad.deploy.coordinator.folder import Coordinator
from fedrad.system.ports import free_port

HALF = b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: localhost\r\n"
WATCH_SECONDS = 25.0


def main() -> None:
    """Print a line for each attack, and the costs of a signature."""
    with TemporaryDirectory() as folder, superlink(Path(folder)) as gate:
        print(f"idle: {gate.memory():.0f} MiB, a signed request {gate.request_ms(20)}")
        for name, attack in ATTACKS.items():
            gate.measure(name, attack)
    costs()


class SuperLink:
    """A running SuperLink. `port` and `ca` are those for hospitals."""

    def __init__(self, process: int, port: int, ca: Path, key: ec.EllipticCurvePrivateKey) -> None:
        self.process, self.port, self.key = process, port, key
        self.trust = ssl.create_default_context(cafile=str(ca))
        self.client = httpx.Client(verify=self.trust, timeout=30)
        self.node = 0

    def memory(self) -> float:
        """Resident memory of the process, MiB."""
        status = Path(f"/proc/{self.process}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def connect(self, *, tls: bool = True) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        if not tls:
            return plain
        try:
            return self.trust.wrap_socket(plain, server_hostname="localhost")
        except OSError:
            plain.close()
            raise

    def request(self) -> float:
        """Milliseconds of an honest node's request, over a connection that it holds."""
        from fedrad.flower import internals

        def part(module: str, name: str) -> Any:
            return internals.load(internals.FlowerPart(module, name))

        interceptor = part("flwr.supernode.node_auth_http_interceptor", "NodeAuthHttpInterceptor")
        context = part("flwr.supercore.protobuf.client", "ProtobufRequestContext")
        public = self.key.public_key()
        with contextlib.suppress(ImportError):  # a version that signs whole requests
            from fedrad.flower.request_signing import RequestSigner as interceptor  # noqa: N813
        if self.node:
            path = "send-node-heartbeat"
            node = part("flwr.proto.node_pb2", "Node")(node_id=self.node)
            message = part("flwr.proto.heartbeat_pb2", "SendNodeHeartbeatRequest")(
                node=node, heartbeat_interval=60
            )
        else:
            path = "activate-node"
            key = part("flwr.supercore.primitives.asymmetric", "public_key_to_bytes")(public)
            message = part("flwr.proto.fleet_pb2", "ActivateNodeRequest")(
                public_key=key, heartbeat_interval=60
            )
        request = self.client.build_request(
            "POST",
            f"https://localhost:{self.port}/v1/fleet/{path}",
            content=message.SerializeToString(),
            headers={"content-type": "application/protobuf"},
        )
        began = time.perf_counter()
        answer = interceptor(self.key, public).intercept(
            context("", message, request), lambda made: self.client.send(made.request)
        )
        took = (time.perf_counter() - began) * 1000
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {answer.text}")
        if not self.node:
            made = part("flwr.proto.fleet_pb2", "ActivateNodeResponse")
            self.node = made.FromString(answer.content).node_id
        return took

    def request_ms(self, times: int) -> str:
        """Median and largest time of some requests, or what became of them."""
        taken, lost, why = [], 0, ""
        for _ in range(times):
            try:
                taken.append(self.request())
            except (httpx.TransportError, RuntimeError) as error:
                lost, why = lost + 1, str(error)
        if not taken:
            return f"none of {times} answered ({why.strip()})"
        worst = f"{statistics.median(taken):.0f} ms (largest {max(taken):.0f} ms)"
        return worst + (f", {lost} lost" if lost else "")

    def measure(self, name: str, attack: "Callable[[SuperLink], list[socket.socket]]") -> None:
        """Attack, and print what it did."""
        before, most = self.memory(), [0.0]
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.05):
                most[0] = max(most[0], self.memory())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        connections = attack(self)
        began = time.monotonic()
        beside = self.request_ms(20)
        open_until = closing(connections, began)
        ended.set()
        watcher.join()
        print(
            f"{name}: {before:.0f} -> {most[0]:.0f} MiB (+{most[0] - before:.0f}); {open_until}; "
            f"an honest request beside it {beside}",
            flush=True,
        )
        for connection in connections:
            connection.close()


def closing(connections: list[socket.socket], began: float) -> str:
    """When the other end closed connections, at most WATCH_SECONDS after the attack began."""
    left, last = list(connections), 0.0
    for connection in left:
        connection.setblocking(False)
    while left and time.monotonic() - began < WATCH_SECONDS:
        for connection in list(left):
            try:
                if connection.recv(65536) == b"":
                    left.remove(connection)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            except OSError:
                left.remove(connection)
            last = time.monotonic() - began
        time.sleep(0.05)
    still = f"{len(left)} of {len(connections)} open after {WATCH_SECONDS:.0f} s"
    return still if left else f"all {len(connections)} closed after {last:.0f} s"


def large_headers(gate: SuperLink) -> list[socket.socket]:
    """100 requests of 2 MB of headers, none of which ends."""
    made = []
    for _ in range(100):
        with contextlib.suppress(OSError):
            connection = gate.connect()
            made.append(connection)
            connection.sendall(HALF + b"x: " + b"x" * 2_000_000)
    return made


def unfinished_bodies(gate: SuperLink) -> list[socket.socket]:
    """Six bodies of 63 MiB, of which the last byte does not come."""
    made = []
    for _ in range(6):
        with contextlib.suppress(OSError):
            connection = gate.connect()
            made.append(connection)
            connection.sendall(
                HALF + b"content-type: application/protobuf\r\ncontent-length: 66060288\r\n\r\n"
            )
            for _ in range(63):
                connection.sendall(bytes(2**20 - 1))
    return made


def half_sent(gate: SuperLink) -> list[socket.socket]:
    """20 requests of half their headers."""
    made = [gate.connect() for _ in range(20)]
    for connection in made:
        connection.sendall(HALF)
    return made


def one_byte_a_second(gate: SuperLink) -> list[socket.socket]:
    """20 requests whose headers come one byte a second."""
    made = half_sent(gate)

    def drip() -> None:
        for _ in range(int(WATCH_SECONDS)):
            time.sleep(1)
            for connection in made:
                with contextlib.suppress(OSError, ValueError):
                    connection.send(b"x")

    threading.Thread(target=drip, daemon=True).start()
    return made


def no_handshake(gate: SuperLink) -> list[socket.socket]:
    """20 connections on which nothing is sent."""
    return [gate.connect(tls=False) for _ in range(20)]


def many_connections(gate: SuperLink) -> list[socket.socket]:
    """400 connections with TLS and half a request each."""
    made = []
    for _ in range(400):
        with contextlib.suppress(OSError):
            connection = gate.connect()
            made.append(connection)
            connection.sendall(HALF)
    return made


ATTACKS: dict[str, Callable[[SuperLink], list[socket.socket]]] = {
    "100 requests with headers of 2 MB": large_headers,
    "six unfinished bodies of 63 MiB": unfinished_bodies,
    "20 half-sent requests": half_sent,
    "20 of one byte a second": one_byte_a_second,
    "20 without a TLS handshake": no_handshake,
    "400 connections of one address": many_connections,
}
if chosen := sys.argv[1:]:
    ATTACKS = {name: attack for name, attack in ATTACKS.items() if attack.__name__ in chosen}


@contextlib.contextmanager
def superlink(folder: Path) -> Iterator[SuperLink]:
    """A SuperLink as `fedrad serve` runs it, with one admitted hospital."""
    coordinator = Coordinator(folder / "coordinator")
    coordinator.set_up(f"localhost:{free_port()}", listen="127.0.0.1", names=[], own=None)
    settings = coordinator.settings()
    (folder / "hospital").mkdir()
    site = open_site(folder / "hospital", name="hospital-a", state=folder / "state")
    invitation = coordinator.invite("hospital-a", folder / "invitation", days=1)
    join_federation(site, invitation, folder / "request")
    coordinator.admit(coordinator.read_request(folder / "request"))
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    key = load_ssh_private_key(read_membership(site.state).key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    with subprocess.Popen(
        [
            str(Path(sys.executable).with_name("fedrad")),
            "serve",
            "--coordinator",
            str(coordinator.folder),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ,
    ) as serve:
        try:
            ca = coordinator.authority.certificate_file
            gate = SuperLink(0, settings.port, ca, key)
            end = time.monotonic() + 400
            while "none" in gate.request_ms(1):
                if time.monotonic() > end:
                    raise RuntimeError("the SuperLink does not answer")
                time.sleep(0.5)
            gate.process = _child(serve.pid, "coordinator.superlink")
            yield gate
        finally:
            serve.send_signal(signal.SIGINT)
            serve.wait()


def _child(parent: int, name: str) -> int:
    """The process below another whose command holds a name."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and name in (entry / "cmdline").read_text():
                return int(entry.name)
    raise RuntimeError(f"no process {name}")


def costs() -> None:
    """Time to sign and verify a request, and to hash a body of 5 MiB."""
    try:
        from fedrad.exchange.signed_request import SignedRequest, sign_request
    except ImportError:
        return
    key, times = ec.generate_private_key(ec.SECP384R1()), 200
    body = bytes(5 * 2**20)
    path = "/v1/fleet/push-object"
    began = time.perf_counter()
    for _ in range(times):
        header = sign_request(key, "POST", path, b"", release="1")
    signed = (time.perf_counter() - began) / times * 1e6
    began = time.perf_counter()
    for _ in range(times):
        SignedRequest.read(header.encode()).verify(key.public_key(), "POST", path)
    verified = (time.perf_counter() - began) / times * 1e6
    began = time.perf_counter()
    sign_request(key, "POST", path, body, release="1")
    large = (time.perf_counter() - began) * 1000
    print(f"sign {signed:.0f} us, verify {verified:.0f} us; sign a body of 5 MiB {large:.1f} ms")


if __name__ == "__main__":
    main()
