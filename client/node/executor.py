"""The site's node: Flower's SuperNode, with fedrad's executor for its tasks.

    FLWR_HOME=… python -m fedrad.client.node.executor --insecure --superlink HOST:PORT
        --node-config …

takes the arguments of `flower-supernode`; the two speak over a Unix socket in `FLWR_HOME`. It does
not start if a part of Flower that it replaces has changed.
"""

from fedrad.system.no_telemetry import disable_telemetry
from fedrad.system.process_family import end_with_parent

end_with_parent()
disable_telemetry()

import importlib

from fedrad.flower.client_process import OutgoingFilter, run_node
from fedrad.system.private import make_private

from .outgoing_errors import permitted_message, permitted_reason

OUTGOING = OutgoingFilter(message=permitted_message, details=permitted_reason)
NEEDED = ("fedrad.client.app", "monai.networks.layers")
"""Modules that every visit needs and whose import takes seconds; the first imports PyTorch."""


def import_what_visits_need() -> None:
    """Import these modules once, while the SuperNode connects; children inherit them."""
    for name in NEEDED:
        importlib.import_module(name)


if __name__ == "__main__":
    make_private()
    run_node(import_what_visits_need, OUTGOING, "fedrad.client.node.supernode")
