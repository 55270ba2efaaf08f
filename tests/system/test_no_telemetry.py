"""No usage reports: the variables are set before the libraries that read them are imported."""

import subprocess
import sys

import pytest

from fedrad.system.no_telemetry import NO_TELEMETRY


@pytest.mark.parametrize(
    "module",
    [
        "fedrad.client.app",
        "fedrad.server.app",
        "fedrad.client.commands.main",
        "fedrad.deploy.commands.main",
    ],
)
def test_every_entry_turns_telemetry_off_first(module):
    program = (
        f"import os, {module}\n"
        "from flwr.supercore import telemetry\n"
        "assert telemetry.FLWR_TELEMETRY_ENABLED == '0'\n"
        f"assert all(os.environ[k] == v for k, v in {NO_TELEMETRY!r}.items())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
