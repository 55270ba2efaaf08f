"""No usage reports: the variables are set before the libraries that read them are imported."""

import os
import subprocess
import sys

import pytest

from fedrad.system.no_telemetry import NO_TELEMETRY, NO_USAGE_REPORTS

PROCESSES = (
    "fedrad.client.commands.main",
    "fedrad.client.node.executor",
    "fedrad.deploy.commands.main",
    "fedrad.deploy.coordinator.superlink",
    "fedrad.client.node.supernode",
    "fedrad.flower.server_executor",
    "fedrad.flower.superlink",
)
"""Modules that begin a process of fedrad; the apps run in children of these."""
APPS = ("fedrad.client.app", "fedrad.server.app")
"""Modules that a notebook imports too."""


@pytest.mark.parametrize(
    ("module", "variables"),
    [(m, NO_TELEMETRY) for m in PROCESSES] + [(m, NO_USAGE_REPORTS) for m in APPS],
)
def test_every_entry_turns_telemetry_off_first(module, variables):
    program = (
        f"import os, {module}\n"
        "from flwr.supercore import telemetry\n"
        "assert telemetry.FLWR_TELEMETRY_ENABLED == '0'\n"
        f"assert all(os.environ[k] == v for k, v in {variables!r}.items())\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in NO_TELEMETRY}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
