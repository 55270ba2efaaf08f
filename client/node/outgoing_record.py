"""The site's ledger, as the SuperNode asks it: whether a reply was recorded before it is sent.

It runs in the SuperNode, which is another process than the one that answers. A node without a state
folder has no ledger, and sends nothing.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flwr.app import Message

from fedrad.client.log import site_log
from fedrad.client.policy.ledger import LEDGER
from fedrad.client.policy.ledger_lines import LedgerEntry, entry_hash, parsed
from fedrad.client.problems import SiteProblem

from .family import check_not_stopped
from .outgoing_errors import permitted_reason, record_error


class LedgerRecord:
    """The ledger of the site of a node.

    Parameters
    ----------
    node_config
        The configuration of the node, with the site's `name` and `state` folder.
    """

    def __init__(self, node_config: Mapping[str, Any]) -> None:
        state = node_config.get("state")
        self._state = Path(str(state)) if state else None
        self._node_config = node_config
        self._log = (
            site_log(str(node_config.get("name", "site")), self._state)
            if self._state
            else logging.getLogger("fedrad.site")
        )
        self._from: int | None = None

    def request_came(self) -> None:
        """Lines that the ledger has already answer no request that comes now."""
        self._from = None
        if self._state is None:
            return
        try:
            file = self._state / LEDGER
            self._from = file.stat().st_size if file.exists() else 0
        except OSError as error:
            self._log.error("%s: cannot be read: %s", error.filename, error.strerror)

    def holds(self, request: str, content: str) -> bool:
        """Whether a line since the request came has this answer to it."""
        return self._speaks() and any(
            entry.get("request") == request and entry.get("content") == content
            for entry in self._entries()
        )

    def error(self, request: Message, code: int, reason: str | None) -> str | None:
        """The sentence of an error, which has a line in the ledger; None if it cannot have one."""
        if self._state is None or not self._speaks():
            return None
        sentence = permitted_reason(reason, code)
        number = request.metadata.message_id
        line = {"kind": "error", "sentence": sentence}
        try:
            if not any(
                entry.get("request") == number and entry["message"] == line
                for entry in self._entries()
            ):
                record_error(self._state, request, sentence)
        except Exception as error:  # whatever is wrong with the ledger, nothing leaves
            self._log.error("no error is sent to the coordinator either: %s", error)
            return None
        return sentence

    def held_back(self, what: str) -> None:
        """Log that a reply was not sent."""
        self._log.error(
            "NOT SENT: a reply that this site did not make: %s. A program on this machine that "
            "runs as this user, or a fault, made it; the ledger has all that was sent",
            what,
        )

    def _speaks(self) -> bool:
        """Whether this node may send anything at all."""
        if self._state is None:
            self._log.error("the node has no state folder, so it has no ledger and sends nothing")
            return False
        try:
            check_not_stopped(self._node_config)
        except SiteProblem as problem:
            self._log.error("%s", problem)
            return False
        return True

    def _entries(self) -> Iterator[LedgerEntry]:
        """The whole lines of the ledger since the request came."""
        if self._state is None or self._from is None:
            return
        try:
            with (self._state / LEDGER).open("rb") as file:
                file.seek(self._from)
                for line in file.read().split(b"\n"):
                    entry = parsed(line)
                    if entry is not None and entry_hash(entry) == entry["hash"]:
                        yield entry
        except FileNotFoundError:
            return
