"""No telemetry, no usage reports, no look for updates: from any library, in any command.

Called first by every command and app, before the libraries are imported; processes started
later inherit it.
"""

import os

SILENCE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}


def be_quiet() -> None:
    """Set the variables by which the libraries are told to send nothing home."""
    os.environ.update(SILENCE)
