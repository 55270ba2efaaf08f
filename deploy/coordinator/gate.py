"""The gate in front of the SuperLink: hospitals reach the API for nodes and nothing else.

Flower serves three APIs on one port, and authenticates callers only in the API for nodes. Anyone
who reached that port could start runs, and with them code, at the coordinator, and could admit
nodes. So fedrad's SuperLink has two listeners: one on loopback with all APIs, and one for hospitals
behind this gate.
"""

import time

from fedrad.flower.asgi import App, Event, Receive, Scope, Send
from fedrad.flower.signatures import FRESH_SECONDS, HEADER

NODES = "/v1/fleet/"
HEALTH = "/health"
LARGEST = 64 * 2**20
"""Largest request, bytes; Flower sends objects in chunks of 5 MB."""


class TooLargeError(Exception):
    """A request above the limit."""


class Gate:
    """An ASGI app that filters the requests to another.

    It passes on requests of nodes and the health check, and answers 404 to all others. It answers
    413 to a request above LARGEST bytes, and 401 to a signature that was used before. Flower's
    nodes sign only the time of a request and not its content. Without this check, a person with a
    copy of a request could send other requests with its signature while the time is accepted.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._seen: dict[bytes, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return  # this closes a websocket
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
            return False  # Flower refuses it
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
