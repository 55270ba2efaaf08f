"""The site's SuperNode, which holds what it sends against the site's ledger.

    FLWR_HOME=… python -m fedrad.client.node.supernode --superlink HOST:PORT --node-config …

The executor starts it. It does not import PyTorch.
"""

from fedrad.system.no_telemetry import disable_telemetry
from fedrad.system.process_family import end_with_parent

end_with_parent()
disable_telemetry()

from fedrad.flower.supernode import main
from fedrad.system.private import make_private

from .outgoing_record import LedgerRecord

if __name__ == "__main__":
    make_private()
    main(LedgerRecord)
