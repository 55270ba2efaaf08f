"""Errors that leave the site: one sentence of a fixed list, which is also in the ledger.

Flower sends the class and the text of any exception that ended its client process. This text may
name files, patients or values. The app handles its own exceptions; this module handles all others
(a bundle that is not approved, a library that does not load, a full disk).
"""

from hashlib import sha256
from pathlib import Path

from flwr.app import Context, Error, Message

from fedrad.client.policy.ledger import LEDGER, Ledger
from fedrad.flower.bundles import REFUSALS
from fedrad.flower.internals import ErrorCode

NO_REASON = "the visit could not be run; the site's log says why"
CRASHED = "the process of the visit ended without an answer; the site's log may say why"
"""It was killed, by a person or by the system for lack of memory, or was suspended too long."""


def permitted_reason(reason: str | None, code: int | None = None) -> str:
    """The sentence of the list that is sent instead of an exception's text."""
    if code == ErrorCode.CLIENT_APP_CRASHED:
        return CRASHED
    return next((known for known in REFUSALS if known in (reason or "")), NO_REASON)


def permitted_message(message: Message, context: Context) -> Message:
    """Filter a message before it leaves; an error is also written to the ledger.

    Parameters
    ----------
    message
        The message that Flower's client process would send. A reply of the app stays unchanged; the
        reason of an error is replaced by a sentence of the list.
    context
        The node's configuration, with the site's state folder.

    Returns
    -------
    Message
        The same message.

    Raises
    ------
    LedgerError, OSError
        If the entry cannot be written; nothing is sent then.
    """
    if not message.has_error():
        return message
    reason = permitted_reason(message.error.reason)
    message.error = Error(message.error.code, reason)
    if state := context.node_config.get("state"):
        record_error(Path(str(state)), message, reason, message.metadata.reply_to_message_id)
    return message


def record_error(state: Path, message: Message, sentence: str, request: str | None = None) -> None:
    """Write an error into the ledger before it is sent.

    Parameters
    ----------
    state
        The site's state folder.
    message
        The message of the error, or the request that it answers.
    sentence
        The sentence of the list.
    request
        Flower's id of the request; None if `message` is the request.

    Raises
    ------
    LedgerError
        If the entry cannot be written; nothing is sent then.
    """
    Ledger(state / LEDGER).append(
        {
            "experiment": f"run {message.metadata.run_id}",
            "asked": {"kind": str(message.metadata.message_type)},
            "request": request or message.metadata.message_id,
            "message": {"kind": "error", "sentence": sentence},
            "message_bytes": len(sentence.encode()),
            "tensor_bytes": 0,
            "sha256": sha256(sentence.encode()).hexdigest(),
        }
    )
