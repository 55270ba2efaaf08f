"""What of the SuperLink a hospital can reach: the nodes' own requests, and nothing else.

Flower serves three APIs on one port, and asks of none but the nodes' who is calling: whoever
reached that port could start runs, and with them code, at the coordinator, and admit nodes. So
fedrad's SuperLink has two listeners: the whole on loopback, and what is behind this gate for
hospitals.
"""

import time

from fedrad.flower.asgi import App, Event, Receive, Scope, Send
from fedrad.flower.signatures import FRESH_SECONDS, HEADER

NODES = "/v1/fleet/"
HEALTH = "/health"
LARGEST = 64 * 2**20
"""Bytes of a request; Flower sends objects in chunks of 5 MB."""


class TooLargeError(Exception):
    """A request above the limit."""


class Gate:
    """An ASGI app before another.

    Answers 404 but to the nodes' requests and the health check, 413 above LARGEST bytes, and 401 to
    a signature that was used before: Flower's nodes sign the time and not what they ask, so that
    one who got hold of a request could send others in its name while the time is fresh.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._seen: dict[bytes, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            return  # a websocket is closed by that
        path, method = scope["path"], scope["method"]
        if path == HEALTH and method in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
        elif not path.startswith(NODES) or method != "POST":
            await _answer(send, 404, b"not found")
        elif self._replayed(dict(scope["headers"])):
            await _answer(send, 401, b"this request was sent before")
        else:
            await self._limited(scope, receive, send)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0
        answered = False

        async def limited_receive() -> Event:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LARGEST:
                raise TooLargeError
            return message

        async def noted_send(message: Event) -> None:
            nonlocal answered
            answered = True
            await send(message)

        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > LARGEST:
            await _answer(send, 413, b"too large")
            return
        try:
            await self._app(scope, limited_receive, noted_send)
        except TooLargeError:
            if not answered:
                await _answer(send, 413, b"too large")

    def _replayed(self, headers: dict[bytes, bytes]) -> bool:
        signature = headers.get(HEADER)
        if signature is None:
            return False  # Flower turns it away
        now = time.monotonic()
        while self._seen and (oldest := next(iter(self._seen.items())))[1] < now:
            del self._seen[oldest[0]]
        if signature in self._seen:
            return True
        self._seen[signature] = now + FRESH_SECONDS
        return False


async def _answer(send: Send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
