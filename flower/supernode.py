"""`flower-supernode`, with its own arguments, looking for messages more often, and ending well.

    python -m fedrad.flower.supernode --superlink HOST:PORT --port PORT --node-config …

SIGTERM ends it at once where it works on no message, else when the answer to the message has been
sent; SIGINT, or a second SIGTERM, at once.
"""

from fedrad.system.no_telemetry import disable_telemetry

disable_telemetry()

import os
import signal
import sys
import time
import traceback
from types import FrameType, SimpleNamespace
from typing import Any

from .bundles import BundleNotApprovedError, approve
from .internals import (
    flower_supernode,
    get_fused_config_from_fab,
    replace,
    start_parent_process_monitor,
)

POLL_SECONDS = 0.5
"""How often the coordinator is asked for messages; Flower's own is 3 s."""


def settings_of(content: bytes, run: Any) -> dict[str, Any]:
    """Read the settings of a bundle, in the place of Flower's function.

    Flower's unpacks a bundle's project file in memory, whatever its size, before the client process
    is asked. Here a bundle that is not fedrad's has no settings; the client process refuses it.

    Parameters
    ----------
    content
        The bundle, a zip archive.
    run
        Flower's description of the run, with what its starter overrides.

    Returns
    -------
    The run's configuration by name.
    """
    try:
        approve(content)
    except BundleNotApprovedError:
        return {}
    return dict(get_fused_config_from_fab(content, run))


class Ending:
    """Lets the message that is worked on be answered before the node ends.

    Stands in the place of three functions of Flower's main loop, and calls them. Raises
    FlowerMovedError.
    """

    def __init__(self) -> None:
        self._at_work = False
        self._wanted = False
        loop = "start_client_internal"
        self._pull = replace(loop, "_pull_and_store_message", self._pull_message)
        self._push = replace(loop, "_push_messages", self._push_answer)
        self._register = replace(loop, "register_signal_handlers", self._register_handlers)

    def _pull_message(self, **given: Any) -> int | None:
        run: int | None = self._pull(**given)
        self._at_work = run is not None
        return run

    def _push_answer(self, **given: Any) -> None:
        self._push(**given)
        self._at_work = False
        if self._wanted:
            signal.raise_signal(signal.SIGINT)

    def _register_handlers(self, **given: Any) -> None:
        """Flower's handlers, and ours before the one of SIGTERM."""
        self._register(**given)
        at_once = signal.getsignal(signal.SIGTERM)
        assert callable(at_once)

        def end(number: int, frame: FrameType | None) -> None:
            if self._at_work and not self._wanted:
                self._wanted = True
                return
            at_once(number, frame)

        signal.signal(signal.SIGTERM, end)


def main() -> None:
    """Run the SuperNode until it is told to end. Raises FlowerMovedError."""
    start_parent_process_monitor(os.getppid())  # no node without its executor
    quick = SimpleNamespace(**vars(time))
    quick.sleep = lambda seconds: time.sleep(min(seconds, POLL_SECONDS))
    replace("start_client_internal", "time", quick)
    replace("_pull_and_store_message", "get_fused_config_from_fab", settings_of)
    Ending()
    sys.argv[1:1] = ["--isolation", "process"]
    try:
        flower_supernode()  # ends by an exit, or has given up: Flower may log that and return
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # its server's thread would keep a node that gave up alive, and deaf


if __name__ == "__main__":
    main()
