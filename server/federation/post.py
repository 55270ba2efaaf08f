"""The post between coordinator and nodes: requests out, answers in, one at a time."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedrad.exchange.encoding import Packed
from fedrad.exchange.messages import REASONS, MessageError, Reason, Refusal, reply_from_record
from fedrad.exchange.wire import Wire

log = logging.getLogger("fedrad.server")


@dataclass(frozen=True)
class Answer:
    """What came of asking one node: a reply with its array, or a failure in words.

    `status` is "ok", "refused", "lost", "timeout" or "invalid"; `reason` is the word of a refusal.
    `visit` is the number under which it was asked; 0 for the question whether it can take part.
    """

    node: int
    visit: int
    status: str
    reply: Any = None
    packed: Packed | None = None
    failure: str = ""
    reason: Reason | None = None


@dataclass(frozen=True)
class _Request:
    node: int
    visit: int
    kind: type[Wire]


class Post:
    """Requests that were sent and not yet answered, over any number of visits."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._waiting: dict[str, _Request] = {}

    def send(
        self, node: int, message_type: str, content: RecordDict, kind: type[Wire], visit: int = 0
    ) -> None:
        """Send a request whose answer is of a kind."""
        (sent,) = self._grid.push_messages([Message(content, node, message_type)])
        self._waiting[sent] = _Request(node, visit, kind)

    def receive(self) -> Iterator[Answer]:
        """Each answer that is there, pulled one at a time: no more than one array is held."""
        for message_id, request in list(self._waiting.items()):
            for message in self._grid.pull_messages([message_id]):
                del self._waiting[message_id]
                yield _read(message, request)

    def busy(self, visit: int | None = None) -> set[int]:
        """Nodes that have not answered, in one visit or in any."""
        return {r.node for r in self._waiting.values() if visit is None or r.visit == visit}


def _read(message: Message, request: _Request) -> Answer:
    node, visit = request.node, request.visit
    if message.has_error():
        return Answer(
            node,
            visit,
            "lost",
            failure=f"no answer (Flower error {message.error.code}): the node "
            "was lost or its client process ended; see the site's log",
        )
    try:
        reply, packed = reply_from_record(message.content, request.kind)
    except MessageError as error:
        return Answer(node, visit, "invalid", failure=f"answer not understood: {error}")
    if isinstance(reply, Refusal):
        return Answer(node, visit, "refused", failure=REASONS[reply.reason], reason=reply.reason)
    return Answer(node, visit, "ok", reply, packed)
