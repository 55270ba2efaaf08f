"""Several hosts on one machine, as network namespaces, each connected to the coordinator alone.

    hospital-a ── veth ──┐
    hospital-b ── veth ──┼── coordinator (10.77.0.1)
    hospital-c ── veth ──┘

Needs root and iproute2. Every frame that leaves or enters a hospital is recorded.
"""

import ctypes
import os
import shutil
import socket
import struct
import subprocess
import threading
import uuid
from pathlib import Path

HOST = "coordinator.test"
ADDRESS = "10.77.0.1"
ETHERNET, IPV4, TCP = 14, 0x0800, 6
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
"""For `setns` of one thread; Python has it from 3.12 on."""


def available() -> bool:
    """Whether this machine lets us make namespaces."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    name = f"fedrad-probe-{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return made.returncode == 0


class Network:
    """A coordinator and some hospitals. Use as a context manager."""

    def __init__(self, hospitals: list[str]) -> None:
        self.mark = uuid.uuid4().hex[:4]
        self.hospitals = hospitals
        self.frames: dict[str, list[bytes]] = {name: [] for name in hospitals}
        self._sniffers: list[socket.socket] = []

    def __enter__(self) -> "Network":
        self._namespace("coordinator")
        self.ip("coordinator", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        for number, name in enumerate(self.hospitals, start=1):
            self._namespace(name)
            ours, theirs = f"v{self.mark}{number}", f"w{self.mark}{number}"
            _run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs)
            _run("ip", "link", "set", ours, "netns", self.name("coordinator"))
            _run("ip", "link", "set", theirs, "netns", self.name(name))
            self.ip("coordinator", "address", "add", f"10.77.{number}.1/24", "dev", ours)
            self.ip("coordinator", "link", "set", ours, "up")
            self.ip(name, "link", "set", theirs, "name", "eth0")
            self.ip(name, "address", "add", f"10.77.{number}.2/24", "dev", "eth0")
            self.ip(name, "link", "set", "eth0", "up")
            self.ip(name, "route", "add", f"{ADDRESS}/32", "via", f"10.77.{number}.1")
            self._record(name)
        return self

    def __exit__(self, *_: object) -> None:
        for sniffer in self._sniffers:
            sniffer.close()
        for name in ["coordinator", *self.hospitals]:
            _run("ip", "netns", "delete", self.name(name))
            shutil.rmtree(f"/etc/netns/{self.name(name)}", ignore_errors=True)

    def name(self, host: str) -> str:
        """The namespace of a host."""
        return f"fedrad-{self.mark}-{host}"

    def at(self, host: str, *command: str) -> list[str]:
        """A command as it runs at a host."""
        return ["ip", "netns", "exec", self.name(host), *command]

    def ip(self, host: str, *arguments: str) -> None:
        """Run `ip` at a host."""
        _run("ip", "-n", self.name(host), *arguments)

    def unplug(self, host: str) -> None:
        """Disconnect a host from the network."""
        self.ip(host, "link", "set", "eth0", "down")

    def plug(self, host: str) -> None:
        """Connect it again."""
        self.ip(host, "link", "set", "eth0", "up")
        number = self.hospitals.index(host) + 1
        self.ip(host, "route", "replace", f"{ADDRESS}/32", "via", f"10.77.{number}.1")

    def partners(self, host: str) -> set[tuple[str, int]]:
        """Address and port of each receiver of a hospital's IP packets; port 0: not TCP."""
        number = self.hospitals.index(host) + 1
        receivers = set()
        for frame in self.frames[host]:
            if struct.unpack("!H", frame[12:14])[0] != IPV4:
                continue
            packet = frame[ETHERNET:]
            source, to = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
            if source != f"10.77.{number}.2":
                continue
            header = (packet[0] & 0xF) * 4
            port = struct.unpack("!H", packet[header + 2 : header + 4])[0]
            receivers.add((to, port if packet[9] == TCP else 0))
        return receivers

    def _namespace(self, host: str) -> None:
        _run("ip", "netns", "add", self.name(host))
        self.ip(host, "link", "set", "lo", "up")
        for what in ("all", "default"):
            _run(*self.at(host, "sysctl", "-q", "-w", f"net.ipv6.conf.{what}.disable_ipv6=1"))
        etc = Path("/etc/netns") / self.name(host)
        etc.mkdir(parents=True)
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{ADDRESS} {HOST}\n")
        (etc / "resolv.conf").write_text("")  # names that are not in hosts cannot be resolved

    def _record(self, host: str) -> None:
        """Keep every frame of a hospital's cable, from a thread that opened it there."""
        opened = threading.Event()

        def record() -> None:
            with Path(f"/var/run/netns/{self.name(host)}").open() as namespace:
                assert LIBC.setns(namespace.fileno(), CLONE_NEWNET) == 0
            sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            sniffer.bind(("eth0", 0))
            self._sniffers.append(sniffer)
            opened.set()
            while True:
                try:
                    self.frames[host].append(sniffer.recv(65_536))
                except OSError as error:
                    if sniffer.fileno() < 0:
                        return
                    if error.errno != 100:  # the cable is out
                        raise

        threading.Thread(target=record, daemon=True).start()
        assert opened.wait(5)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
