"""Network ports of this machine."""

import socket

LISTENS_SECONDS = 2.0
"""How long to wait for an answer of this machine itself."""


def free_port() -> int:
    """A port of the loopback interface that no program uses at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether a program listens at a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(LISTENS_SECONDS)
        return probe.connect_ex(("127.0.0.1", port)) == 0
