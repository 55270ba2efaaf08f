"""What leaves where the app gave no answer: a sentence of a fixed list; the ledger has it too.

Flower sends the class and the text of whatever exception ended its client process, wherever it came
from: it may name files, patients, values. The app catches its own; these are the others (a bundle
that is not approved, a library that does not load, a disk that is full).
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message

from fedrad.client.policy.ledger import LEDGER, Ledger
from fedrad.flower.bundles import REFUSALS

UNSAID = "the visit could not be run; the site's log says why"


def sentence(reason: str | None) -> str:
    """The sentence that may leave in the place of a reason."""
    return next((known for known in REFUSALS if known in (reason or "")), UNSAID)


def scrubbed(message: Message, context: Context) -> Message:
    """A message as it may leave: one that the app made is as it was, an error says a sentence of
    the list and is recorded. Raises LedgerError or OSError where it cannot be recorded."""
    if not message.has_error():
        return message
    said = sentence(message.error.reason)
    message.error = Error(message.error.code, said)
    if state := context.node_config.get("state"):
        Ledger(Path(str(state)) / LEDGER).append(
            {
                "experiment": f"run {message.metadata.run_id}",
                "asked": {"kind": str(message.metadata.message_type)},
                "message": {"kind": "error", "sentence": said},
                "message_bytes": len(said.encode()),
                "tensor_bytes": 0,
                "sha256": sha256(said.encode()).hexdigest(),
            }
        )
    return message


def scrub(run_clientapp: Any) -> None:
    """Put this in the place of the two functions by which Flower's client process speaks."""
    push_message, push_output = run_clientapp.push_message, run_clientapp.push_task_output

    def pushed(client: Any, message: Message, context: Context) -> None:
        push_message(client, scrubbed(message, context), context)

    def ended(client: Any, context: Context | None, sub_status: str, details: str) -> None:
        push_output(client, context, sub_status, sentence(details) if details else "")

    run_clientapp.push_message, run_clientapp.push_task_output = pushed, ended
