"""Switches off telemetry, usage reports and checks for updates of all libraries.

Commands, nodes, the apps and the Python interface call one of the two functions first, before they
import the libraries. Processes that they start inherit it. Commands and nodes also keep Hugging
Face's libraries offline. The Python interface runs in a process that belongs to its user, who may
need them for other work.
"""

import os

NO_USAGE_REPORTS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
NO_TELEMETRY = {**NO_USAGE_REPORTS, "HF_HUB_OFFLINE": "1"}
"""For a process that is fedrad's alone."""


def disable_telemetry() -> None:
    """Set the environment variables that keep the libraries from sending anything."""
    os.environ.update(NO_TELEMETRY)


def disable_usage_reports() -> None:
    """Set those of the variables that concern usage reports and are not set yet.

    For code that may run in a process of somebody else.
    """
    for name, value in NO_USAGE_REPORTS.items():
        os.environ.setdefault(name, value)
