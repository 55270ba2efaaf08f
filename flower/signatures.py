"""How Flower's SuperLink decides whether a node's signed request is fresh.

A node signs the time at which it asks. The SuperLink refuses a time that is too far ahead of its
own clock or too long past.
"""

from .internals import FLEET_HTTP_SIGNATURE_HEADER as _HEADER
from .internals import (
    PARTS,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_TOLERANCE,
    check_source,
)

check_source(PARTS["authenticate_node"])

HEADER = _HEADER.lower().encode()
"""Header of a request that holds the signature, as ASGI has it."""
AHEAD_SECONDS = float(SYSTEM_TIME_TOLERANCE)
BEHIND_SECONDS = float(TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE)
"""How much a node's clock may differ from the SuperLink's before its signatures are refused."""
FRESH_SECONDS = AHEAD_SECONDS + BEHIND_SECONDS
"""For so long, at most, one signature is taken for fresh."""
