"""The coordinator's SuperLink: its own socket, and a listener for hospitals behind the gate.

python -m fedrad.deploy.coordinator.superlink --coordinator FOLDER --parent PID --socket PATH
    --database FILE --listen HOST --hospital-port PORT --hospital-certificate FILE
    --hospital-key FILE
"""

from fedrad.system.no_telemetry import disable_telemetry

disable_telemetry()

import argparse
import logging
import sys
from pathlib import Path

from fedrad.flower.asgi import App
from fedrad.flower.log_lines import run_log_formatter
from fedrad.flower.superlink import run_superlink
from fedrad.system.private import make_private

from .folder import Coordinator
from .gate import Gate
from .seen import SeenFile


def main() -> None:
    """Run the SuperLink with the gate of a coordinator's folder."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--coordinator", type=Path, required=True)
    given, sys.argv[1:] = parser.parse_known_args()
    handler = logging.StreamHandler()  # `fedrad serve` reads these lines
    handler.setFormatter(run_log_formatter())
    logging.getLogger("fedrad").addHandler(handler)
    coordinator = Coordinator(given.coordinator)

    def gate(app: App) -> Gate:
        return Gate(app, coordinator.members_file, SeenFile(coordinator.folder))

    run_superlink(gate)


if __name__ == "__main__":
    make_private()
    main()
