"""Asking sites: one request to several nodes, their answers one at a time, until a deadline."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedrad.exchange.messages import REASONS, MessageError, Refusal, reply_from_record
from fedrad.exchange.wire import Wire

log = logging.getLogger("fedrad.server")

R = TypeVar("R", bound=Wire)
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Answer(Generic[R]):
    """What came of asking one node: a reply with its array, or a failure in words.

    `status` is "ok", "refused", "lost", "timeout" or "invalid".
    """

    node: int
    status: str
    reply: R | None = None
    packed: NDArray[np.float32] | None = None
    failure: str = ""


def ask(
    grid: Grid,
    nodes: Mapping[int, str],
    message_type: str,
    content: RecordDict,
    kind: type[R],
    *,
    deadline_seconds: float,
) -> Iterator[Answer[R]]:
    """Send one request to some nodes and yield each answer as it comes.

    `nodes`: node id -> site name, for messages to people. Answers are pulled one at a time, so
    that no more than one array is held. What has not come by the deadline is yielded as
    "timeout".
    """
    ordered = sorted(nodes, key=lambda node: nodes[node])
    sent = grid.push_messages([Message(content, node, message_type) for node in ordered])
    waiting = dict(zip(sent, ordered, strict=True))
    end = time.monotonic() + deadline_seconds
    while waiting and time.monotonic() < end:
        arrived = False
        for message_id, node in list(waiting.items()):
            for message in grid.pull_messages([message_id]):
                del waiting[message_id]
                arrived = True
                yield _read(message, node, kind)
        if waiting and not arrived:
            time.sleep(POLL_SECONDS)
    for node in waiting.values():
        yield Answer(node, "timeout", failure="no answer before the deadline")


def _read(message: Message, node: int, kind: type[R]) -> Answer[R]:
    if message.has_error():
        return Answer(
            node, "lost", failure=f"no answer (Flower error {message.error.code}): the node was "
            "lost or its client process ended; see the site's log",
        )  # fmt: skip
    try:
        reply, packed = reply_from_record(message.content, kind)
    except MessageError as error:
        return Answer(node, "invalid", failure=f"answer not understood: {error}")
    if isinstance(reply, Refusal):
        return Answer(node, "refused", failure=REASONS[reply.reason])
    return Answer(node, "ok", reply, packed)
