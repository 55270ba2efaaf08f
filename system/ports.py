"""Ports and sockets of this machine."""

import os
import socket
from pathlib import Path

LISTENS_SECONDS = 2.0
"""How long to wait for an answer of this machine itself."""


def free_port() -> int:
    """A port of the loopback interface that no program uses at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens_at(path: Path) -> bool:
    """Whether a program listens at a Unix socket, whatever the length of its path."""
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(LISTENS_SECONDS)
            return probe.connect_ex(f"/proc/self/fd/{folder}/{path.name}") == 0
    finally:
        os.close(folder)
