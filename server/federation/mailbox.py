"""The post between coordinator and nodes: requests out, answers in, one at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Answer(Generic[ReplyT_co]):
    """What came of asking one node: a reply with its array, or a failure in words.

    `status`: "ok" with a reply; all others without. `reason`: the word of a refusal.
    """

    node: int
    status: Literal["ok", "refused", "lost", "timeout", "invalid"]
    reply: ReplyT_co | None = None
    packed: Packed | None = None
    failure: str = ""
    reason: Reason | None = None


@dataclass(frozen=True)
class Returned:
    """A message that came back from a node, not yet read.

    `visit` is the number under which the node was asked; 0 for the question whether it can take
    part.
    """

    node: int
    visit: int
    message: Message

    def read(self, asked: MessageType[Request, ReplyT]) -> Answer[ReplyT]:
        """What the node says to what it was asked."""
        if self.message.has_error():
            return Answer(
                self.node,
                "lost",
                failure=f"no answer (Flower error {self.message.error.code}): the node "
                "was lost or its client process ended; see the site's log",
            )
        try:
            reply, packed = reply_from_record(self.message.content, asked.reply)
        except MessageError as error:
            return Answer(self.node, "invalid", failure=f"answer not understood: {error}")
        if isinstance(reply, Refusal):
            return Answer(self.node, "refused", failure=REASONS[reply.reason], reason=reply.reason)
        return Answer(self.node, "ok", reply, packed)


class Post:
    """Requests that were sent and not yet answered, over any number of visits."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._waiting: dict[str, tuple[int, int]] = {}
        """Flower's number of a request -> the node asked, and the visit."""

    def send(
        self,
        node: int,
        message_type: MessageType[Request, Reply],
        content: RecordDict,
        visit: int = 0,
    ) -> None:
        """Send a request to one node."""
        (sent,) = self._grid.push_messages([Message(content, node, message_type.name)])
        self._waiting[sent] = node, visit

    def receive(self) -> Iterator[Returned]:
        """Each answer that is there, pulled one at a time: no more than one array is held."""
        for message_id, (node, visit) in list(self._waiting.items()):
            for message in self._grid.pull_messages([message_id]):
                del self._waiting[message_id]
                yield Returned(node, visit, message)

    def busy(self, visit: int | None = None) -> set[int]:
        """Nodes that have not answered, in one visit or in any."""
        return {node for node, asked in self._waiting.values() if visit in (None, asked)}
