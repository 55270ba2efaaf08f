"""Log lines that fedrad reads: those of Flower, and those of fedrad in the log of a run.

The log is not an interface of Flower. So each pattern is listed with the code of Flower that prints
the line, and a test fails if that code changes.
"""

import logging
import re
from dataclasses import dataclass

from .internals import FlowerMovedError, FlowerPart, check_source

_NODE = "flwr.supernode.start_client_internal"


@dataclass(frozen=True)
class LogLine:
    """A kind of line in a node's log: its pattern, and the parts of Flower that print it."""

    pattern: str
    printed_by: tuple[FlowerPart, ...]

    def matches(self, line: str) -> bool:
        """Whether a line of the log is of this kind."""
        return re.search(self.pattern, line) is not None


CONNECTED = LogLine(
    r"SuperNode ID:",
    (FlowerPart(_NODE, "start_client_internal", ('log(INFO, "SuperNode ID: %s", node_id)',)),),
)
NOT_ADMITTED = LogLine(
    # httpx prints the status of a response: "Client error '401 Unauthorized' for url …"
    r"\[code: 2004\]|401 Unauthorized|Invalid SuperNode",
    (
        FlowerPart(
            "flwr.supernode.fleet_http_connection",
            "http_request_response",
            ('message = f"[code: {flower_error.code}] {flower_error.message}"',),
        ),
        FlowerPart(
            "flwr.supercore.error.base", "ApiErrorCode", ("FLEET_NODE_ACTIVATION_FAILED = 2004",)
        ),
        FlowerPart(
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
    # the first is from OpenSSL, in the text of httpx's exception, with which Flower ends the node
    r"CERTIFICATE_VERIFY_FAILED|SSL/TLS handshake",
    (
        FlowerPart(
            "flwr.supernode.fleet_http_connection",
            "http_request_response",
            (
                "message = str(exc)",
                '"Failed to initialize the connection to the SuperLink.\\n" + message',
            ),
        ),
        FlowerPart(
            "flwr.supercore.retry.http_retry",
            "make_simple_http_retry_invoker",
            ('log(ERROR, "SSL/TLS handshake error detected.")',),
        ),
    ),
)
CONNECTED_AGAIN = LogLine(
    r"Connection successful after",
    (
        FlowerPart(
            "flwr.supercore.retry.http_retry",
            "make_simple_http_retry_invoker",
            ('"Connection successful after %.2f seconds and %s tries."',),
        ),
    ),
)
MESSAGE_RECEIVED = LogLine(
    r"Received successfully",
    (FlowerPart(_NODE, "_pull_and_store_message", ('log(INFO, "Received successfully")',)),),
)
ANSWER_SENT = LogLine(
    r"Sent successfully",
    (FlowerPart(_NODE, "_push_messages", ('log(INFO, "Sent successfully")',)),),
)
MESSAGE_LOST = LogLine(
    r"Failed to (send|receive) message",
    (
        FlowerPart(_NODE, "_pull_and_store_message", ('"Failed to receive message %s: %s"',)),
        FlowerPart(_NODE, "_push_messages", ('"Failed to send message %s: %s"',)),
    ),
)
RUN_HAS_ENDED = LogLine(
    r"is not in `RUNNING` status",
    (
        FlowerPart(_NODE, "_pull_and_store_message", ('"Run ID %s is not in `RUNNING` status.',)),
        FlowerPart(_NODE, "_push_messages", ('"Run ID %s is not in `RUNNING` status.',)),
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
NO_WAY = "no way to the coordinator: "
"""Beginning of a line of fedrad in the node's log: why it does not reach the coordinator."""
_REFUSED_BY_GATE = re.compile(r"^401 Unauthorized: (this machine's clock .*)")
_MOVED = re.compile(rf"{FlowerMovedError.__name__}: (.*)")
_OF_FEDRAD = re.compile(r"fedrad (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)")


def missing_lines() -> list[str]:
    """Check the code that prints the lines. Flower is not imported.

    Returns
    -------
    list[str]
        A sentence for each line that is no longer printed as its pattern expects.
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
    match = _MOVED.search(line)
    return match[1] if match else None


def clock_fault(line: str) -> str | None:
    """What the coordinator's gate says of this machine's clock, from a line of the node's log."""
    match = _REFUSED_BY_GATE.search(line)
    return match[1] if match else None


def route_fault(line: str) -> str | None:
    """What keeps a node from its coordinator, from a line of the node's log."""
    return line if line.startswith(NO_WAY) else None


def run_log_formatter() -> logging.Formatter:
    """Format of fedrad's lines in the log of a run, which holds Flower's lines too."""
    return logging.Formatter("fedrad %(levelname)s %(message)s")


def run_log_line(line: str) -> tuple[int, str] | None:
    """Level and text of a line that fedrad wrote into the log of a run; None for Flower's lines."""
    match = _OF_FEDRAD.fullmatch(line)
    return (logging.getLevelNamesMapping()[match[1]], match[2]) if match else None
