"""Unix sockets in place of loopback ports, so that only this user reaches Flower's own interfaces.

A port on loopback is open to every user of a machine, and Flower asks nobody there who he is. A
Unix socket of mode 600 in a folder of mode 700 is open to its owner (and to root) only.

Flower's clients take an address `HOST:PORT`. A client in a process that called `use_socket` reaches
the address LOCAL over the socket, and every other address directly: such a process speaks to this
machine only, so no proxy of the environment concerns it.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from fedrad.system.errors import UserError

from .internals import replace

LOCAL_HOST = "local.invalid"
LOCAL = f"{LOCAL_HOST}:80"
"""Address that Flower's clients reach over the socket. No name server knows it (RFC 2606)."""


class SocketError(UserError):
    """A socket cannot be made or reached. The text names it, why, and what to do."""


def listen_at(path: Path) -> socket.socket:
    """Make a Unix socket that only this user can connect to.

    Parameters
    ----------
    path
        The socket, in a folder that exists. One that an ended process left is replaced.

    Returns
    -------
    socket.socket
        Bound, of mode 600, and not yet listening (uvicorn takes it so).

    Raises
    ------
    SocketError
        If the folder is open to others, or its file system has no sockets or no permissions.
    """
    folder = path.parent.stat()
    if folder.st_uid != os.getuid() or stat.S_IMODE(folder.st_mode) & 0o077:
        raise SocketError(
            f"{path.parent}: other users of this machine can reach into this folder, and with it "
            f"the socket of the node: chmod 700 {path.parent}"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        with _short(path) as address:
            listener.bind(address)
        if stat.S_IMODE(path.stat().st_mode) != 0o600:
            raise SocketError(
                f"{path}: the file system keeps no permissions (a mounted share?); use a state "
                "folder on a disk of this machine"
            )
    except OSError as error:
        listener.close()
        raise SocketError(
            f"{path}: no socket can be made there ({error.strerror}); use a state folder on a disk "
            "of this machine"
        ) from error
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def use_socket(path: Path) -> None:
    """Let the clients of Flower in this process reach the address LOCAL over a socket.

    Raises FlowerMovedError.
    """

    def client(**arguments: Any) -> httpx.Client:
        return httpx.Client(
            **arguments, mounts={f"all://{LOCAL_HOST}": _SocketTransport(path)}, trust_env=False
        )

    replace("ProtobufClient", "httpx", SimpleNamespace(**{**vars(httpx), "Client": client}))


class _SocketTransport(httpx.HTTPTransport):
    """Connects to a socket, whatever the length of its path."""

    def __init__(self, path: Path) -> None:
        self._folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        super().__init__(trust_env=False, uds=f"/proc/self/fd/{self._folder}/{path.name}")

    def close(self) -> None:
        """Close all connections."""
        super().close()
        os.close(self._folder)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A short name of a path, for as long as the block lasts: the system's limit is 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
