"""The gate in front of the SuperLink: what hospitals reach, and only with a member's signature.

Flower serves three APIs on one port, and authenticates callers only in the API for nodes. Anyone
who reached that port could start runs, and with them code, at the coordinator, and could admit
nodes. So fedrad's SuperLink has two listeners: one for this machine with all APIs, and one for
hospitals behind this gate.

A request passes these checks in this order; whoever has no key reaches only the first three:
path, headers, signature (`exchange/signed_request.py`), time and nonce, room for
the body and its pace (`gate_limits.py`), the body's hash, and that it concerns the node that
signed it (`flower/fleet.py`). Connections are limited before that
(`flower/hospital_connections.py`).
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from fedrad.exchange import clocks
from fedrad.exchange.signed_request import HEADER, SignedRequest, SignedRequestError
from fedrad.flower.asgi import App, Event, Receive, Scope, Send
from fedrad.flower.fleet import (
    KEY_HEADER,
    LARGEST_BODY,
    PULL,
    PUSH,
    FleetRequests,
    NotOfThisNodeError,
    key_header,
)
from fedrad.flower.hospital_connections import VERIFIED
from fedrad.flower.signatures import AHEAD_SECONDS, BEHIND_SECONDS

from . import gate_limits
from .gate_keys import KnownKey, KnownKeys, NobodyIsKnownError
from .gate_limits import Bodies, Nonces, NoRoomError, TooManyError
from .seen import SeenFile, SeenSite

HEALTH = "/health"
RECORDED = (PULL, PUSH)
"""Requests whose answers say what a node was given."""
log = logging.getLogger("fedrad.gate")


class RefusedRequest(Exception):
    """A request that is not passed on: the HTTP status and text of the answer."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers or {}


class Gate:
    """An ASGI app that passes the requests of members' nodes on to another.

    Parameters
    ----------
    app
        The SuperLink.
    members
        File with the list of members.
    seen
        File that tells which site was heard when; None: it is not told.
    """

    def __init__(self, app: App, members: Path, seen: SeenFile | None = None) -> None:
        self._app = app
        self._keys = KnownKeys(members)
        self._seen = seen
        self._nonces = Nonces()
        self._bodies = Bodies()
        self._fleet = FleetRequests()
        self._started = time.time()
        self._wrong_clocks: set[str] = set()
        self._writing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return  # this closes a websocket
        verified = scope.get("state", {}).pop(VERIFIED, None)
        try:
            if scope["path"] == HEALTH and scope["method"] in {"GET", "HEAD"}:
                await self._app(scope, receive, send)
                return
            path = _path(scope)
            headers = _headers(scope)
            signed = _signature(headers)
            key = self._known(signed)
            signed.verify(key.key, "POST", path)
            _check_size(path, headers, signed)
            self._check_time(key, signed)
            if verified is not None:  # not for an old header, which somebody else may hold
                verified(key.id)
            async with self._bodies.room(key.id, signed.length):
                body = await _whole_body(receive, signed)
                key = self._known(signed)  # it may have been revoked meanwhile
                if headers.get(KEY_HEADER) != key_header(key.in_flower):
                    raise RefusedRequest(401, "Flower's signature is by another key")
                self._fleet.check(path, body, key.in_flower, key.node)
                self._note(key, signed)
                await self._passed_on(path, key, body, (scope, receive, send))
        except RefusedRequest as refused:
            await _answer(send, refused)
        except SignedRequestError as error:
            await _answer(send, RefusedRequest(401, str(error)))
        except NotOfThisNodeError as error:
            log.warning("%s: a request was refused: %s", key.site, error)
            await _answer(send, RefusedRequest(403, str(error)))
        except (NoRoomError, TooManyError, NobodyIsKnownError):
            await _answer(send, RefusedRequest(503, "not now; try again"))

    def _known(self, signed: SignedRequest) -> KnownKey:
        key = self._keys.find(signed.key)
        if key is None:
            raise RefusedRequest(401, "no site with this key is admitted")
        return key

    def _check_time(self, key: KnownKey, signed: SignedRequest) -> None:
        """Raise RefusedRequest for a request that is too old or new, or was sent before."""
        at = signed.signed_at.timestamp()
        ahead = at - time.time()
        if not -BEHIND_SECONDS < ahead < AHEAD_SECONDS:
            if key.site not in self._wrong_clocks:
                self._wrong_clocks.add(key.site)
                log.warning("%s", clocks.for_the_coordinator(key.site, ahead))
            self._note(key, signed, refused=True)
            stated = {clocks.DIFFERENCE_HEADER: f"{ahead:.1f}"}
            raise RefusedRequest(401, clocks.for_the_site(ahead), stated)
        self._wrong_clocks.discard(key.site)
        if at < self._started:  # the nonces that were used before this gate started are not known
            raise RefusedRequest(503, "signed before the coordinator started; sign it again")
        if not self._nonces.is_new(key.id, signed.nonce):
            raise RefusedRequest(401, "this request was sent before")

    def _note(self, key: KnownKey, signed: SignedRequest, *, refused: bool = False) -> None:
        if self._seen is None:
            return
        ahead = signed.signed_at.timestamp() - time.time()
        heard = SeenSite(
            at=datetime.now(UTC), release=signed.release, clock=round(ahead, 1), refused=refused
        )
        content = self._seen.note(key.site, heard)
        if content is not None:
            task = asyncio.create_task(asyncio.to_thread(self._seen.write, content))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
            known = self._keys.all().values()
            self._fleet.keep(k.node for k in known if k.node is not None)
            self._nonces.keep({k.id for k in known})

    async def _passed_on(
        self, path: str, key: KnownKey, body: bytes, asgi: tuple[Scope, Receive, Send]
    ) -> None:
        """Pass on a request whose body has come, and note what its answer gives to the node."""
        scope, receive, send = asgi
        given = False
        start: Event = {}
        answer = bytearray()

        async def receive_whole() -> Event:
            nonlocal given
            if given:
                return await receive()  # which waits until the node has gone
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send_when_noted(message: Event) -> None:
            """Hold an answer until it is noted: a node asks at once for what it was given."""
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            answer.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            if start["status"] == 200 and key.node is not None:
                self._fleet.note(path, key.node, bytes(answer))
            await send(start)
            await send({"type": "http.response.body", "body": bytes(answer)})

        await self._app(scope, receive_whole, send_when_noted if path in RECORDED else send)


def _path(scope: Scope) -> str:
    """The path of a node's request, in its one spelling. Raises RefusedRequest."""
    path: str = scope["path"]
    known = path in LARGEST_BODY and scope["method"] == "POST"
    if not known or scope.get("raw_path") not in (None, path.encode()) or scope["query_string"]:
        raise RefusedRequest(404, "not found")
    return path


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request. Raises RefusedRequest if there are too many, or one twice."""
    pairs = scope["headers"]
    size = sum(len(name) + len(value) for name, value in pairs)
    if len(pairs) > gate_limits.MOST_HEADERS or size > gate_limits.LARGEST_HEADERS:
        raise RefusedRequest(431, "too many headers, or too large ones")
    headers = dict(pairs)
    if len(headers) < len(pairs):
        raise RefusedRequest(400, "a header is there twice")
    return headers


def _signature(headers: dict[bytes, bytes]) -> SignedRequest:
    if (header := headers.get(HEADER.encode())) is None:
        raise RefusedRequest(
            401, "the request has no signature of fedrad: the site needs the coordinator's release"
        )
    return SignedRequest.read(header)


def _check_size(path: str, headers: dict[bytes, bytes], signed: SignedRequest) -> None:
    """Raise RefusedRequest unless the body has the size that was signed, and is small enough."""
    stated = headers.get(b"content-length", b"")
    if b"transfer-encoding" in headers or not stated.isdigit():
        raise RefusedRequest(411, "the length of the body is not stated")
    if int(stated) != signed.length:
        raise RefusedRequest(400, "the body has another length than was signed")
    if signed.length > LARGEST_BODY[path]:
        raise RefusedRequest(413, f"larger than {LARGEST_BODY[path]} bytes")


async def _whole_body(receive: Receive, signed: SignedRequest) -> bytes:
    """Receive a body. Raises RefusedRequest if it is slow, or not the body that was signed."""
    body, digest, more = bytearray(), sha256(), True
    least = int(gate_limits.SLOWEST * gate_limits.PAUSE_SECONDS)
    while more:
        goal = min(signed.length, len(body) + least)
        try:
            async with asyncio.timeout(gate_limits.PAUSE_SECONDS):
                while more and (len(body) < goal or goal == signed.length):
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedRequest(400, "the connection was lost")
                    part = message.get("body", b"")
                    if len(body) + len(part) > signed.length:
                        raise RefusedRequest(400, "the body is longer than was signed")
                    body += part
                    digest.update(part)
                    more = bool(message.get("more_body"))
        except TimeoutError:
            raise RefusedRequest(408, "too slow") from None
    if len(body) != signed.length or digest.hexdigest() != signed.sha256:
        raise RefusedRequest(400, "the body is not the one that was signed")
    return bytes(body)


async def _answer(send: Send, refused: RefusedRequest) -> None:
    """Refuse a request. The connection ends: the rest of the request is not read."""
    text = f"{refused}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(text)).encode()),
        (b"connection", b"close"),
        *((name.encode(), value.encode()) for name, value in refused.headers.items()),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
