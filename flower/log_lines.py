"""Lines of logs that fedrad reads: Flower's, and its own in the log of a run.

The log is no interface of Flower's: each pattern stands beside the parts of Flower that print the
line (or the part of it that matters), so that a test notices when they change.
"""

import logging
import re
from dataclasses import dataclass

from .internals import FlowerMovedError, Part, check_source

_NODE = "flwr.supernode.start_client_internal"


@dataclass(frozen=True)
class LogLine:
    """A line of a node's log: the pattern that finds it, and what of Flower prints it."""

    pattern: str
    printed_by: tuple[Part, ...]

    def matches(self, line: str) -> bool:
        """Whether a line of the log is of this kind."""
        return re.search(self.pattern, line) is not None


CONNECTED = LogLine(
    r"SuperNode ID:",
    (Part(_NODE, "start_client_internal", ('log(INFO, "SuperNode ID: %s", node_id)',)),),
)
NOT_ADMITTED = LogLine(
    # httpx words the status of an answer so: "Client error '401 Unauthorized' for url …"
    r"\[code: 2004\]|401 Unauthorized|Invalid SuperNode",
    (
        Part(
            "flwr.supernode.fleet_http_connection",
            "http_request_response",
            ('message = f"[code: {flower_error.code}] {flower_error.message}"',),
        ),
        Part("flwr.supercore.error.base", "ApiErrorCode", ("FLEET_NODE_ACTIVATION_FAILED = 2004",)),
        Part(
            "flwr.superlink.routers.fleet.node_auth",
            "authenticate_node",
            (
                "status_code=status.HTTP_401_UNAUTHORIZED",
                'detail="Invalid SuperNode authentication"',
            ),
        ),
    ),
)
OTHER_CERTIFICATE = LogLine(
    # the first is OpenSSL's, in the text of httpx's exception, with which Flower ends the node
    r"CERTIFICATE_VERIFY_FAILED|SSL/TLS handshake",
    (
        Part(
            "flwr.supernode.fleet_http_connection",
            "http_request_response",
            (
                "message = str(exc)",
                '"Failed to initialize the connection to the SuperLink.\\n" + message',
            ),
        ),
        Part(
            "flwr.supercore.retry.http_retry",
            "make_simple_http_retry_invoker",
            ('log(ERROR, "SSL/TLS handshake error detected.")',),
        ),
    ),
)
CONNECTED_AGAIN = LogLine(
    r"Connection successful after",
    (
        Part(
            "flwr.supercore.retry.http_retry",
            "make_simple_http_retry_invoker",
            ('"Connection successful after %.2f seconds and %s tries."',),
        ),
    ),
)
MESSAGE_RECEIVED = LogLine(
    r"Received successfully",
    (Part(_NODE, "_pull_and_store_message", ('log(INFO, "Received successfully")',)),),
)
ANSWER_SENT = LogLine(
    r"Sent successfully",
    (Part(_NODE, "_push_messages", ('log(INFO, "Sent successfully")',)),),
)
MESSAGE_LOST = LogLine(
    r"Failed to (send|receive) message",
    (
        Part(_NODE, "_pull_and_store_message", ('"Failed to receive message %s: %s"',)),
        Part(_NODE, "_push_messages", ('"Failed to send message %s: %s"',)),
    ),
)
RUN_HAS_ENDED = LogLine(
    r"is not in `RUNNING` status",
    (
        Part(_NODE, "_pull_and_store_message", ('"Run ID %s is not in `RUNNING` status.',)),
        Part(_NODE, "_push_messages", ('"Run ID %s is not in `RUNNING` status.',)),
    ),
)
LINES = (
    CONNECTED,
    NOT_ADMITTED,
    OTHER_CERTIFICATE,
    CONNECTED_AGAIN,
    MESSAGE_RECEIVED,
    ANSWER_SENT,
    MESSAGE_LOST,
    RUN_HAS_ENDED,
)
_MOVED = re.compile(rf"{FlowerMovedError.__name__}: (.*)")
_OF_FEDRAD = re.compile(r"fedrad (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)")


def missing_lines() -> list[str]:
    """What is not printed any more as the patterns expect, in sentences; empty where all is.

    Imports nothing of Flower.
    """
    faults = []
    for line in LINES:
        for part in line.printed_by:
            try:
                check_source(part)
            except FlowerMovedError as error:
                faults.append(str(error))
    return faults


def moved_part(line: str) -> str | None:
    """The text of a FlowerMovedError that ended a process, from the last line of its traceback."""
    found = _MOVED.search(line)
    return found[1] if found else None


def run_log_formatter() -> logging.Formatter:
    """How fedrad writes its own lines into the log of a run, among Flower's."""
    return logging.Formatter("fedrad %(levelname)s %(message)s")


def run_log_line(line: str) -> tuple[int, str] | None:
    """Level and text of a line that fedrad wrote into the log of a run; None: it is Flower's."""
    found = _OF_FEDRAD.fullmatch(line)
    return (logging.getLevelNamesMapping()[found[1]], found[2]) if found else None
