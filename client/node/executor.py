"""The site's node: Flower's SuperNode, with an executor of fedrad's own for its tasks.

    python -m fedrad.client.node.executor --insecure --superlink HOST:PORT --port PORT
        --node-config …

takes the arguments of `flower-supernode`. Where a part of Flower has moved that is replaced, it
refuses to start.
"""

from fedrad.system.no_telemetry import disable_telemetry

disable_telemetry()

import importlib

from fedrad.flower.client_process import run_node

from .outgoing_errors import OUTGOING

NEEDED = ("fedrad.client.app", "monai.networks.layers")
"""What a visit needs, and would import for seconds: PyTorch with the first."""


def import_what_visits_need() -> None:
    """Import once, while the SuperNode connects: every child inherits it."""
    for name in NEEDED:
        importlib.import_module(name)


if __name__ == "__main__":
    run_node(import_what_visits_need, OUTGOING)
