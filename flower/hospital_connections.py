"""Connections of hospitals: how many are held, and for how long.

Whoever reaches the port can open connections, and asyncio takes 256 KiB for each with TLS. So their
number is limited before TLS, each step has its time, and connections on which no member's signature
was verified make room for others.
"""

import asyncio
import socket
import ssl
from collections import Counter

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 512
MOST_OF_ONE_ADDRESS = 96
"""Connections in total, and of one address, which several hospitals and a proxy may share."""
MOST_OF_ONE_KEY = 16
"""Connections of one site; its node has up to six."""
HANDSHAKE_SECONDS = 8.0
"""Time for TLS."""
HEADER_SECONDS = 8.0
"""Time from the connection, or from the first byte of a further request, to the end of its
headers."""
IDLE_SECONDS = 15.0
"""How long a connection is held between two requests, and an answer that is not read."""
SLOWEST = 1024
"""An answer must be read at SLOWEST bytes/s at least, over each IDLE_SECONDS."""
END_SECONDS = 3.0
"""Time for the end of TLS."""
LARGEST_HEADERS = 16 * 2**10
"""Bytes of headers that are kept until the last of them has come."""
TCP_NOTSENT_LOWAT, UNSENT = getattr(socket, "TCP_NOTSENT_LOWAT", 25), 128 * 2**10
"""The system takes at most UNSENT bytes that it has not sent, so that it is seen how fast an answer
is read. Without that it takes megabytes at a time, for which a slow line needs a minute."""
VERIFIED = "fedrad.verified"
"""Key of a request's `state` with a function, to be called with a name (id of the key that signed)
when a request was verified."""


class Connections:
    """All connections of the listener, in the order in which they were opened."""

    def __init__(self) -> None:
        self._open: dict[Connection, None] = {}

    def enter(self, new: "Connection") -> bool:
        """Take a connection in, if there is room or another can be ended. Returns whether."""
        of_address = Counter(connection.address for connection in self._open)
        if of_address[new.address] >= MOST_OF_ONE_ADDRESS:
            room = self._end_unverified(new.address)
        elif len(self._open) >= MOST_CONNECTIONS:
            addresses = [address for address, _ in of_address.most_common()]
            room = any(self._end_unverified(address) for address in addresses)
        else:
            room = True
        if room:
            self._open[new] = None
        return room

    def leave(self, connection: "Connection") -> None:
        """Forget a connection that has ended."""
        self._open.pop(connection, None)

    def belongs_to(self, connection: "Connection", key: str) -> None:
        """A request on a connection was verified. End the site's oldest one if it has too many."""
        if connection.key == key:
            return
        connection.key = key
        of_key = [c for c in self._open if c.key == key]
        if len(of_key) > MOST_OF_ONE_KEY:
            of_key[0].end()

    def _end_unverified(self, address: str) -> bool:
        for connection in self._open:
            if connection.address == address and connection.key is None:
                connection.end()
                return True
        return False


class Connection(asyncio.Protocol):
    """A connection before TLS, which then hands over to HTTP.

    Parameters
    ----------
    connections
        All connections of the listener.
    server
        The listener; its configuration has been loaded.

    Attributes
    ----------
    address
        Address of the other end.
    key
        Id of the key that signed a request; None until one was verified.
    """

    def __init__(self, connections: Connections, server: uvicorn.Server) -> None:
        self._connections = connections
        self._server = server
        self.address = ""
        self.key: str | None = None
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin TLS, if there is room."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.pause_reading()  # until TLS reads
        plain = transport.get_extra_info("socket")
        plain.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        if not self._connections.enter(self):
            transport.abort()
            return
        self._handshake = asyncio.get_running_loop().create_task(self._shake_hands(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended before TLS began."""
        self._connections.leave(self)

    def end(self) -> None:
        """End the connection at once."""
        self._connections.leave(self)
        if self._transport is not None:
            self._transport.abort()

    def unsent(self) -> int:
        """Bytes of an answer that the other end has not read."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        http = _Http(self, self._connections, self._server)
        loop = asyncio.get_running_loop()
        assert self._server.config.ssl is not None
        try:
            encrypted = await loop.start_tls(
                transport,
                http,
                self._server.config.ssl,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=END_SECONDS,
            )
        except (OSError, ssl.SSLError):  # a scanner, or a node that does not trust the certificate
            encrypted = None
        if encrypted is None or encrypted.is_closing():
            self.end()
            return
        http.connection_made(encrypted)


class _Http(H11Protocol):
    """HTTP on a connection, with times for headers and for answers that nobody reads."""

    def __init__(
        self, connection: Connection, connections: Connections, server: uvicorn.Server
    ) -> None:
        state = {VERIFIED: lambda key: connections.belongs_to(connection, key)}
        super().__init__(config=server.config, server_state=server.server_state, app_state=state)
        self._connection = connection
        self._all = connections
        self._early: bytes | None = b""
        """What came with the end of the handshake, before this connection is made."""
        self._header_timer: asyncio.TimerHandle | None = None
        self._reading_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        early, self._early = self._early, None
        self._time_headers()
        if early:
            self.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.leave(self._connection)
        for timer in (self._header_timer, self._reading_timer):
            if timer is not None:
                timer.cancel()
        if self._early is None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._early is not None:
            self._early += data
            return
        super().data_received(data)
        self._time_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.trailing_data[0]:
            self._time_headers()  # of a next request, of which a part is here

    def _time_headers(self) -> None:
        """Begin to wait for headers, or stop to wait: while a request is at work its body and
        answer have times of their own."""
        at_work = self.cycle is not None and not self.cycle.response_complete
        if at_work and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        elif not at_work and self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self._connection.end)

    def timeout_keep_alive_handler(self) -> None:
        """End a connection without requests, when its last answer was read."""
        if not self._connection.unsent():
            super().timeout_keep_alive_handler()
        elif self._reading_timer is None:
            self._check_reading(None)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reading_timer is None:
            self._check_reading(None)

    def _check_reading(self, before: int | None) -> None:
        """End the connection unless its answer was read fast enough since the last time."""
        unsent = self._connection.unsent()
        if before is not None and unsent and before - unsent < SLOWEST * IDLE_SECONDS:
            self._connection.end()
            return
        self._reading_timer = (
            self.loop.call_later(IDLE_SECONDS, self._check_reading, unsent) if unsent else None
        )
        if not unsent and before is not None and self.timeout_keep_alive_task is not None:
            super().timeout_keep_alive_handler()
