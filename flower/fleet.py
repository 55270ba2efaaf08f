"""What one node may ask of the SuperLink: what concerns itself, and no other node.

Flower compares the node that a request names with the key in its header. It does not look at the
sender that a pushed message names, and hands out or deletes an object to whoever knows its id. Both
are checked here, before Flower sees the request.
"""

from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from .internals import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    PARTS,
    PROTOBUF_REQUEST_TYPES,
    SUPERLINK_NODE_ID,
    PullMessagesResponse,
    PushMessagesResponse,
    check_source,
)

check_source(PARTS["push_messages"])  # takes the first message of a request
check_source(PARTS["SqlLinkState"])  # takes a reply only from the node that was asked

PREFIX = "/v1/fleet/"
ACTIVATE, PULL, PUSH = (f"{PREFIX}{n}" for n in ("activate-node", "pull-messages", "push-messages"))
PUSH_OBJECT, PULL_OBJECT = f"{PREFIX}push-object", f"{PREFIX}pull-object"
CONFIRM = f"{PREFIX}confirm-message-received"
KEY_HEADER = FLEET_HTTP_PUBLIC_KEY_HEADER.lower().encode()
"""Name of the header with the node's public key, as in ASGI."""
_SMALL = 64 * 2**10
LARGEST_BODY: Mapping[str, int] = {
    ACTIVATE: _SMALL,
    f"{PREFIX}deactivate-node": _SMALL,
    f"{PREFIX}send-node-heartbeat": _SMALL,
    PULL: _SMALL,
    PUSH: 2 * 2**20,
    f"{PREFIX}get-run": _SMALL,
    f"{PREFIX}get-fab": _SMALL,
    PULL_OBJECT: _SMALL,
    PUSH_OBJECT: 8 * 2**20,
    CONFIRM: _SMALL,
}
"""Requests of nodes, by path -> largest body, bytes. Flower sends an array in objects of 5 MiB, and
a message with the list of its objects. Nodes do not register themselves: `fedrad sites admit`."""
REMEMBERED = 64
"""Messages and pushes of each node that are remembered; a node has one of each at a time."""


class NotOfThisNodeError(Exception):
    """A request speaks for another node, or asks for what is another's. The text says how."""


@dataclass
class _Held:
    """What a node was given since the gate started."""

    objects: OrderedDict[str, frozenset[str]] = field(default_factory=OrderedDict)
    """Message that the node pulled -> its objects."""
    sessions: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Pushes of objects that the node may make."""


class FleetRequests:
    """Binds each request to the node whose key signed it.

    A gate that was started again knows nothing of what was given before, and refuses it. The run to
    which it belonged has ended with the SuperLink.
    """

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}

    def check(self, path: str, body: bytes, key: bytes, node: int | None) -> None:
        """Check that a request concerns only the node that signed it.

        Parameters
        ----------
        path
            One of LARGEST_BODY.
        body
            The request, as protobuf.
        key
            The public key that signed it, in Flower's format.
        node
            Number of the node with that key; None if it has none yet.

        Raises
        ------
        NotOfThisNodeError
            If it does not, or cannot be decoded.
        """
        request = _decoded(PROTOBUF_REQUEST_TYPES["POST", path], body)
        if path == ACTIVATE:
            _require(request.public_key == key, "activates a node with another key")
            return
        stated = request.node.node_id if hasattr(request, "node") else request.node_id
        _require(node is not None and stated == node, "names another node")
        held = self._held.get(stated, _Held())
        if path == PUSH:
            _check_push(request, stated)
        elif path == PUSH_OBJECT:
            _require(request.session_id in held.sessions, "pushes into the session of another node")
        elif path == PULL_OBJECT:
            given = any(request.object_id in objects for objects in held.objects.values())
            _require(given, "pulls an object that was not sent to this node")
        elif path == CONFIRM:
            given = request.message_object_id in held.objects
            _require(given, "confirms a message that was not sent to this node")

    def note(self, path: str, node: int, answer: bytes) -> None:
        """Remember what a node was given by an answer of Flower."""
        if path == PULL:
            pulled = _decoded(PullMessagesResponse, answer)
            for tree in pulled.message_object_trees:
                self._remember(self._of(node).objects, tree.object_id, frozenset(_objects(tree)))
        elif path == PUSH and (session := _decoded(PushMessagesResponse, answer).session_id):
            self._remember(self._of(node).sessions, session, None)

    def keep(self, nodes: Iterable[int]) -> None:
        """Forget all nodes but these."""
        for node in self._held.keys() - set(nodes):
            del self._held[node]

    def _of(self, node: int) -> _Held:
        return self._held.setdefault(node, _Held())

    def _remember(self, among: OrderedDict[str, Any], name: str, value: Any) -> None:
        among[name] = value
        among.move_to_end(name)
        while len(among) > REMEMBERED:
            among.popitem(last=False)


def key_header(key: bytes) -> bytes:
    """The value of KEY_HEADER for a key in Flower's format."""
    return b64encode(key)


def _check_push(request: Any, node: int) -> None:
    """A node pushes one reply of its own to the coordinator. A message without `reply_to` would be
    an instruction of the coordinator to some node."""
    _require(
        len(request.messages_list) == len(request.message_object_trees) == 1,
        "does not push one message with its objects",
    )
    metadata, tree = request.messages_list[0].metadata, request.message_object_trees[0]
    _require(metadata.src_node_id == node, "pushes a message in the name of another node")
    _require(metadata.dst_node_id == SUPERLINK_NODE_ID, "pushes a message to another node")
    _require(bool(metadata.reply_to_message_id), "pushes a message that answers none")
    _require(tree.object_id == metadata.message_id, "pushes objects of another message")


def _objects(tree: Any) -> Iterable[str]:
    left = [tree]
    while left:
        part = left.pop()
        yield part.object_id
        left.extend(part.children)


def _decoded(kind: type[Message], content: bytes) -> Any:
    message = kind()
    try:
        message.ParseFromString(content)
    except DecodeError:
        raise NotOfThisNodeError("cannot be decoded") from None
    return message


def _require(held: bool, fault: str) -> None:
    if not held:
        raise NotOfThisNodeError(f"the request {fault}")
