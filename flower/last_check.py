"""The last place before the network: what a site has not recorded is not sent, whoever made it.

A message of Flower is a tree of objects, each with the SHA-256 of its content as its id; the
content of an object has the ids of the objects below it. So the id of a reply's content stands for
every byte of it. The process that answers a request writes this id into the site's record, and the
SuperNode looks it up there before it sends. Nothing else of a reply is taken from the process that
made it: the message around the content is made here, from the request.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flwr.app import Error, Message, RecordDict

from .internals import (
    PARTS,
    ErrorCode,
    ObjectTree,
    get_object_children_ids_from_object_content,
    load,
    replace,
)

POLL_SECONDS = 0.1
PUSH_SECONDS = 60.0
"""How long the next object of a reply is waited for."""
ERROR_CODES = (
    ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
    ErrorCode.LOAD_CLIENT_APP_EXCEPTION,
    ErrorCode.CLIENT_APP_CRASHED,
)
"""Codes of Flower that may leave; the first stands for all others."""


class OutgoingRecord(Protocol):
    """What the last check asks of a site's record."""

    def request_came(self) -> None:
        """A request came: only what is recorded from now on may answer it."""

    def holds(self, request: str, content: str) -> bool:
        """Whether the record has an answer to a request with this content (ids of objects)."""

    def error(self, request: Message, code: int, reason: str | None) -> str | None:
        """The sentence to send in place of an error's reason, which is in the record now; None if
        nothing may be sent."""

    def held_back(self, what: str) -> None:
        """Tell the site that something was not sent."""


class NotRecordedError(Exception):
    """A reply that may not leave. The text says why, for the site's log."""


class LastCheck:
    """Lets a SuperNode send what the site has recorded, and nothing else.

    Parameters
    ----------
    record_of
        Configuration of the node -> the site's record.
    pull, push
        Flower's functions `_pull_and_store_message` and `_push_messages`.
    """

    def __init__(
        self,
        record_of: Callable[[Mapping[str, Any]], OutgoingRecord],
        pull: Callable[..., int | None],
        push: Callable[..., None],
    ) -> None:
        self._record_of = record_of
        self._flower_pull, self._flower_push = pull, push
        self._record: OutgoingRecord | None = None
        self._request: Message | None = None

    def pull(self, **arguments: Any) -> int | None:
        """Receive a request, and remember it. Arguments and result are Flower's."""
        if self._record is None:
            self._record = self._record_of(arguments["node_config"])
        record, receive = self._record, arguments["receive"]
        self._request = None

        def remembered() -> Any:
            received = receive()
            if received is not None:
                self._request = received[0]
                record.request_came()
            return received

        return self._flower_pull(**{**arguments, "receive": remembered})

    def push(self, *, state: Any, object_store: Any, **network: Any) -> None:
        """Wait for the reply to the request and send it, or an error in place of one that may not
        leave. Arguments are Flower's."""
        assert self._request is not None
        reply = self._permitted(self._request, state, object_store)
        if reply is None:
            state.delete_messages(message_ids=[self._request.metadata.message_id])
        else:
            self._flower_push(state=_OneReply(state, reply), object_store=object_store, **network)
        self._request = None

    def _permitted(self, request: Message, state: Any, store: Any) -> Message | None:
        """The message to send; None if there is none."""
        assert self._record is not None
        own, answered = None, False
        while not answered:
            time.sleep(POLL_SECONDS)
            for pushed in state.get_messages_legacy(is_reply=True):
                pushed_id = pushed.metadata.message_id
                state.delete_messages(message_ids=[pushed_id])
                if answered or pushed.metadata.reply_to_message_id != request.metadata.message_id:
                    self._record.held_back("it answers no open request")
                else:
                    own, answered = self._own(request, pushed, store), True
                store.delete(pushed_id)
        return own

    def _own(self, request: Message, pushed: Message, store: Any) -> Message | None:
        """A message of our own with the recorded content of a reply, or with an error."""
        assert self._record is not None
        if pushed.has_error():
            return self._error(request, pushed.error.code, pushed.error.reason, store)
        try:
            tree = self._recorded_tree(request, pushed, store)
        except Exception as why:  # of whatever was pushed, nothing may end the node
            known = isinstance(why, NotRecordedError)
            self._record.held_back(str(why) if known else f"it is malformed ({type(why).__name__})")
            return self._error(request, ERROR_CODES[0], None, store)
        reply = Message(_Recorded(tree.object_id), reply_to=request)
        return _stored(reply, [tree], store)

    def _error(self, request: Message, code: int, reason: str | None, store: Any) -> Message | None:
        assert self._record is not None
        code = code if code in ERROR_CODES else ERROR_CODES[0]
        sentence = self._record.error(request, code, reason)
        if sentence is None:
            return None
        return _stored(Message(Error(code, sentence), reply_to=request), [], store)

    def _recorded_tree(self, request: Message, pushed: Message, store: Any) -> ObjectTree:
        """The objects of a reply's content. Raises NotRecordedError."""
        assert self._record is not None
        claimed = store.get_object_tree(pushed.metadata.message_id).children
        if len(claimed) != 1:
            raise NotRecordedError("it has no content, or more than one")
        if not self._record.holds(request.metadata.message_id, claimed[0].object_id):
            raise NotRecordedError("its content is not in the ledger")
        tree = _tree(claimed[0].object_id, store)
        if tree != claimed[0]:
            raise NotRecordedError("it came with objects that are not of its content")
        return tree


class _Recorded(RecordDict):
    """A content whose objects are in the store already; only its id is needed here."""

    def __init__(self, object_id: str) -> None:
        super().__init__()
        self.__dict__["_recorded"] = object_id

    @property
    def object_id(self) -> str:
        """The id of the recorded content."""
        return str(self.__dict__["_recorded"])


class _OneReply:
    """A node's state that has one reply to send, whatever was pushed meanwhile."""

    def __init__(self, state: Any, reply: Message) -> None:
        self._state, self._reply = state, reply

    def get_messages_legacy(self, **_: Any) -> list[Message]:
        """The reply."""
        return [self._reply]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


def content_id(content: RecordDict) -> str:
    """The id of a content, which stands for every byte of it."""
    return str(content.object_id)


def _tree(object_id: str, store: Any) -> ObjectTree:
    """The tree below an object, as the contents say, which the store has held against their ids."""
    until = time.monotonic() + PUSH_SECONDS
    while (content := store.get(object_id)) == b"" and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    if not content:
        raise NotRecordedError("its content did not come")
    below = get_object_children_ids_from_object_content(content)
    return ObjectTree(object_id=object_id, children=[_tree(child, store) for child in below])


def _stored(reply: Message, below: list[ObjectTree], store: Any) -> Message:
    """Put a message into the store of objects, from which Flower sends it."""
    reply.metadata.__dict__["_message_id"] = reply_id = reply.object_id
    tree = ObjectTree(object_id=reply_id, children=below)
    store.preregister(reply.metadata.run_id, tree)
    store.put(reply_id, reply.deflate())
    return reply


def install_last_check(record_of: Callable[[Mapping[str, Any]], OutgoingRecord]) -> None:
    """Put the check into the loop of the SuperNode of this process. Raises FlowerMovedError."""
    pull, push = "_pull_and_store_message", "_push_messages"
    check = LastCheck(record_of, load(PARTS[pull]), load(PARTS[push]))
    replace("start_client_internal", pull, check.pull)
    replace("start_client_internal", push, check.push)
