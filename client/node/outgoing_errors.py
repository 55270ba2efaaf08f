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
from fedrad.flower.client_process import OutgoingFilter

NO_REASON = "the visit could not be run; the site's log says why"


def permitted_reason(reason: str | None) -> str:
    """The sentence of the list that is sent instead of an exception's text."""
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
        Ledger(Path(str(state)) / LEDGER).append(
            {
                "experiment": f"run {message.metadata.run_id}",
                "asked": {"kind": str(message.metadata.message_type)},
                "message": {"kind": "error", "sentence": reason},
                "message_bytes": len(reason.encode()),
                "tensor_bytes": 0,
                "sha256": sha256(reason.encode()).hexdigest(),
            }
        )
    return message


OUTGOING = OutgoingFilter(message=permitted_message, details=permitted_reason)
