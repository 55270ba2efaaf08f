"""Switches off telemetry, usage reports and checks for updates of all libraries.

Every command and app calls this first, before it imports the libraries. Processes that it starts
inherit it.
"""

import os

NO_TELEMETRY = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}


def disable_telemetry() -> None:
    """Set the environment variables that keep the libraries from sending anything."""
    os.environ.update(NO_TELEMETRY)
