"""What leaves where the app gave no answer: a sentence of a fixed list; the ledger has it too.

Flower sends the class and the text of whatever exception ended its client process, wherever it came
from: it may name files, patients, values. The app catches its own; these are the others (a bundle
that is not approved, a library that does not load, a disk that is full).
"""

from hashlib import sha256
from pathlib import Path

from flwr.app import Context, Error, Message

from fedrad.client.policy.ledger import LEDGER, Ledger
from fedrad.flower.bundles import REFUSALS
from fedrad.flower.client_process import OutgoingFilter

NO_REASON = "the visit could not be run; the site's log says why"


def permitted_reason(reason: str | None) -> str:
    """The sentence of the list that may leave in the place of an exception's text."""
    return next((known for known in REFUSALS if known in (reason or "")), NO_REASON)


def permitted_message(message: Message, context: Context) -> Message:
    """A message as it may leave.

    Parameters
    ----------
    message
        What Flower's client process would send. One that the app made stays as it was; in an error
        a sentence of the list takes the place of the reason, and the ledger gets an entry.
    context
        The node's configuration, with the folder of the site's state.

    Returns
    -------
    The same message.

    Raises
    ------
    LedgerError, OSError
        Where the entry cannot be written: then nothing is sent.
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
