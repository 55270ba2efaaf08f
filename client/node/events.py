"""The lines of a node's log that the site's log says in plain words."""

import logging

from fedrad.flower import log_lines

NOT_LET_IN = (
    "the coordinator does not let this node in. After a node was killed that takes about a minute; "
    "if it lasts, the coordinator has not admitted it yet (`fedrad sites admit`), or has revoked "
    "it, or this machine's clock is wrong"
)
EVENTS = (
    (log_lines.CONNECTED, logging.INFO, "connected; waiting for the coordinator"),
    (log_lines.NOT_ADMITTED, logging.WARNING, NOT_LET_IN),
    (
        log_lines.OTHER_CERTIFICATE,
        logging.ERROR,
        "the coordinator's certificate is not the one of the invitation: either another machine "
        "answers in its place, or the coordinator has a new authority and must invite again",
    ),
    (log_lines.CONNECTED_AGAIN, logging.INFO, "the connection is back"),
    (log_lines.MESSAGE_RECEIVED, logging.INFO, "a message came; working on it"),
    (log_lines.ANSWER_SENT, logging.INFO, "answered"),
    (log_lines.MESSAGE_LOST, logging.WARNING, "a message was lost on the way"),
    (log_lines.RUN_HAS_ENDED, logging.INFO, "the experiment has ended meanwhile"),
)
"""Kind of line in the node's log, with level and text of the line in the site's log."""


def event(line: str) -> tuple[int, str] | None:
    """Level and text of the site's line for a line of the node's log; None if there is none."""
    if moved := log_lines.moved_part(line):
        return logging.ERROR, moved
    if wrong := log_lines.clock_fault(line):
        return logging.ERROR, wrong
    if wrong := log_lines.route_fault(line):
        return logging.WARNING, wrong
    return next(((level, words) for kind, level, words in EVENTS if kind.matches(line)), None)
