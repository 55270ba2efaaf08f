"""Times for which Flower's SuperLink accepts the signature of a node's request.

A node signs the time of its request. The SuperLink refuses a time that is too far in the future or
in the past by its own clock. The gate before it allows the same, for the signature of fedrad.
"""

from .internals import PARTS, SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE, check_source

check_source(PARTS["authenticate_node"])

AHEAD_SECONDS = float(SYSTEM_TIME_TOLERANCE)
BEHIND_SECONDS = float(TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE)
"""Largest differences of a node's clock from the SuperLink's."""
FRESH_SECONDS = AHEAD_SECONDS + BEHIND_SECONDS
"""Longest time for which one signature is accepted."""
