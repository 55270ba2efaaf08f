"""Messages between coordinator and nodes: sends requests, receives answers one at a time.

A node may answer anything. Whatever cannot be decoded is an answer "invalid" of that node, with a
reason in our own words: neither its content nor the text of an exception is repeated.
"""

import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, Literal

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedrad.exchange.encoding import Packed
from fedrad.exchange.messages import (
    MessageError,
    MessageType,
    Refusal,
    Reply,
    ReplyT,
    ReplyT_co,
    Request,
    reply_from_record,
)
from fedrad.exchange.reasons import REASONS, Reason

log = logging.getLogger("fedrad.server")

TRANSPORT = ("httpx", "httpcore", "grpc")
"""Packages whose errors, like OSError, are of the connection to Flower's server and not of a
message: they end the run, which can be resumed."""


@dataclass(frozen=True)
class Answer(Generic[ReplyT_co]):
    """The result of a request to one node: a reply with its array, or a failure.

    Attributes
    ----------
    status
        "ok" with a reply; every other status has none.
    packed
        Array of the reply, if it has one.
    failure
        The failure in words; empty with a reply.
    reason
        Reason of a refusal, else None.
    """

    node: int
    status: Literal["ok", "refused", "lost", "timeout", "invalid"]
    reply: ReplyT_co | None = None
    packed: Packed | None = None
    failure: str = ""
    reason: Reason | None = None

    def unusable(self, error: Exception) -> "Answer[ReplyT_co]":
        """The same answer as a failure, after an unexpected error while it was judged. The log says
        where the error was, because it may be a fault of ours."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error(
            "an answer of node %d cannot be used: %s in %s, line %d",
            self.node,
            type(error).__name__,
            place.name,
            place.lineno or 0,
        )
        why = f"its answer cannot be used ({type(error).__name__})"
        return replace(self, status="invalid", reply=None, packed=None, failure=why, reason=None)


@dataclass(frozen=True)
class ReceivedMessage:
    """A received message, not yet decoded.

    `node` is the one that was asked: the gate takes an answer only from the node whose key signed
    it. `visit` is the number of the visit that asked; 0 for the request whether a node can take
    part. Instead of the message there is the error with which Flower could not decode it.
    """

    node: int
    visit: int
    message: Message | Exception

    def read(self, asked: MessageType[Request, ReplyT]) -> Answer[ReplyT]:
        """Decode the answer to a request of type `asked`. Raises nothing, whatever was sent."""
        if isinstance(self.message, Exception):
            return Answer[ReplyT](self.node, "invalid").unusable(self.message)
        try:
            return self._read(self.message, asked)
        except Exception as error:
            return Answer[ReplyT](self.node, "invalid").unusable(error)

    def _read(self, message: Message, asked: MessageType[Request, ReplyT]) -> Answer[ReplyT]:
        if not message.has_error() and message.metadata.src_node_id != self.node:
            return Answer(self.node, "invalid", failure="its answer came from another node")
        if message.has_error():  # also Flower's own, when a node is lost
            return Answer(
                self.node,
                "lost",
                failure=f"no answer (Flower error {message.error.code}): the node "
                "was lost or its client process ended; see the site's log",
            )
        try:
            reply, packed = reply_from_record(message.content, asked.reply)
        except MessageError as error:
            return Answer(self.node, "invalid", failure=f"answer not understood: {error}")
        if isinstance(reply, Refusal):
            return Answer(self.node, "refused", failure=REASONS[reply.reason], reason=reply.reason)
        return Answer(self.node, "ok", reply, packed)


class Mailbox:
    """Sends requests and receives their answers, for any number of visits."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._unanswered: dict[str, tuple[int, int]] = {}
        """Flower's id of an unanswered request -> node and visit."""

    def send(
        self,
        node: int,
        message_type: MessageType[Request, Reply],
        content: RecordDict,
        visit: int = 0,
    ) -> None:
        """Send a request to one node."""
        (sent,) = self._grid.push_messages([Message(content, node, message_type.name)])
        self._unanswered[sent] = node, visit

    def receive(self) -> Iterator[ReceivedMessage]:
        """Each answer that has arrived, one at a time, so that memory holds one array at most. The
        first answer to a request counts."""
        for message_id, (node, visit) in list(self._unanswered.items()):
            message: Message | Exception | None
            try:
                message = next(iter(self._grid.pull_messages([message_id])), None)
            except Exception as error:
                package = type(error).__module__.partition(".")[0]
                if isinstance(error, OSError) or package in TRANSPORT:
                    raise
                message = error
            if message is not None:
                del self._unanswered[message_id]
                yield ReceivedMessage(node, visit, message)

    def unanswered(self, visit: int | None = None) -> set[int]:
        """Nodes that have not answered, in one visit; None for all visits."""
        return {node for node, asked in self._unanswered.values() if visit in (None, asked)}
