"""A proxy on this machine: one that works, and those that hospitals complain about."""

import base64
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Kind = Literal["works", "403", "407", "502", "silent", "closes", "no proxy", "opens TLS"]
REASONS = {"403": "Forbidden", "407": "Proxy Authentication Required", "502": "Bad Gateway"}


class Proxy:
    """A CONNECT proxy at `port` of loopback. Made by `proxy`."""

    def __init__(self, kind: Kind, tls: ssl.SSLContext | None, user: str) -> None:
        self.kind, self.user = kind, user
        self.asked: list[str] = []
        """The target of each CONNECT."""
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections that it has."""
        while len(self._open) > 1:
            _end(self._open.pop())

    def close(self) -> None:
        """End all connections, and take no others."""
        self.cut()
        _end(self._listener)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self._open.append(peer)
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError, ssl.SSLError):
            if self._tls is not None and self.kind != "opens TLS":
                peer = self._tls.wrap_socket(peer, server_side=True)
                self._open.append(peer)
            if self.kind == "closes":
                peer.close()
                return
            if self.kind == "no proxy":  # a mail server
                peer.sendall(b"220 mail.example.org ESMTP\r\n")
                peer.recv(2**16)  # a connection that ends with unread data is reset
                peer.close()
                return
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (more := peer.recv(1)):
                    return
                head += more
            target = head.split()[1].decode()
            self.asked.append(target)
            expected = b"basic " + base64.b64encode(self.user.encode()).lower()
            refused = self.kind
            if self.user and expected not in head.lower():
                refused = "407"
            if refused == "silent":
                time.sleep(60)
            elif reason := REASONS.get(refused):
                peer.sendall(f"HTTP/1.1 {refused} {reason}\r\nContent-Length: 0\r\n\r\n".encode())
                peer.close()
            else:
                self._connect(peer, target)

    def _connect(self, peer: socket.socket, target: str) -> None:
        host, _, port = target.rpartition(":")
        answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        if self.kind == "opens TLS":
            assert self._tls is not None
            peer.sendall(answer)
            self._tls.wrap_socket(peer, server_side=True).recv(1)
            return
        # a name of the tests is this machine, as only the proxy knows
        there = socket.create_connection(("127.0.0.1" if "invalid" in host else host, int(port)))
        self._open.append(there)
        peer.sendall(answer)
        threading.Thread(target=_copy, args=(there, peer), daemon=True).start()
        _copy(peer, there)


def _copy(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            to.sendall(data)
    for end in (source, to):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _end(open_socket: socket.socket) -> None:
    with suppress(OSError):
        open_socket.shutdown(socket.SHUT_RDWR)
    open_socket.close()


@contextmanager
def proxy(
    kind: Kind = "works", *, tls: ssl.SSLContext | None = None, user: str = ""
) -> Iterator[Proxy]:
    """A proxy for the length of a block.

    Parameters
    ----------
    kind
        What it does with CONNECT.
    tls
        Its own certificate: an https proxy, or what one that opens TLS shows.
    user
        `NAME:PASSWORD` that it wants.
    """
    here = Proxy(kind, tls, user)
    try:
        yield here
    finally:
        here.close()
