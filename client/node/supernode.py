"""`flower-supernode`, with its own arguments, looking for messages more often, and ending well.

SIGTERM ends it at once where nothing is in hand, else when the answer to the message in hand has
been sent; SIGINT, or a second SIGTERM, at once.
"""

from fedrad.system.no_telemetry import be_quiet

be_quiet()

import inspect
import os
import signal
import sys
import time
import traceback
from types import FrameType, SimpleNamespace
from typing import Any

import flwr
from flwr.common.config import get_fused_config_from_fab
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supernode import start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode

from fedrad.flower.bundles import BundleNotApprovedError, approve

POLL_SECONDS = 0.5
"""How often the coordinator is asked for messages; Flower's own is 3 s."""
REPLACED = (
    "time.sleep(3)",
    "run_id = _pull_and_store_message(\n",
    "_push_messages(\n",
    "register_signal_handlers(\n",
)
"""Lines of Flower's main loop in which something is replaced."""
SETTINGS_READ = "get_fused_config_from_fab(fab.content, run_info)"
"""The line by which Flower reads a bundle's settings, which is replaced."""


class FlowerMovedError(Exception):
    """A part of Flower is not where fedrad replaces it."""


def check_part(part: object, line: str) -> None:
    """Raise FlowerMovedError where a function of Flower does not have the line that is replaced."""
    if line not in inspect.getsource(part):  # type: ignore[arg-type]
        raise FlowerMovedError(
            f"flwr {flwr.__version__}: {getattr(part, '__module__', part)} has no line {line!r}; "
            "install the flwr of fedrad's constraints"
        )


def settings_of(content: bytes, run: Any) -> dict[str, Any]:
    """In the place of Flower's, which unpacks a bundle's project file in memory, whatever its
    size, before the client process is asked: a bundle that is not fedrad's has no settings, and
    the client process refuses it."""
    try:
        approve(content)
    except BundleNotApprovedError:
        return {}
    return dict(get_fused_config_from_fab(content, run))


class _Ending:
    """Lets the message in hand be answered before the node ends."""

    def __init__(self) -> None:
        self.in_hand = False
        self.wanted = False
        self._pull = start_client_internal._pull_and_store_message
        self._push = start_client_internal._push_messages
        self._register = getattr(start_client_internal, "register_signal_handlers")  # noqa: B009

    def pull(self, **given: Any) -> int | None:
        """In the place of Flower's."""
        run = self._pull(**given)
        self.in_hand = run is not None
        return run

    def push(self, **given: Any) -> None:
        """In the place of Flower's."""
        self._push(**given)
        self.in_hand = False
        if self.wanted:
            signal.raise_signal(signal.SIGINT)

    def register(self, **given: Any) -> None:
        """In the place of Flower's: its handlers, and ours before the one of SIGTERM."""
        self._register(**given)
        at_once = signal.getsignal(signal.SIGTERM)
        assert callable(at_once)

        def end(number: int, frame: FrameType | None) -> None:
            if self.in_hand and not self.wanted:
                self.wanted = True
                return
            at_once(number, frame)

        signal.signal(signal.SIGTERM, end)


def main() -> None:
    """Run the SuperNode until it is told to end."""
    for line in REPLACED:
        check_part(start_client_internal.start_client_internal, line)
    check_part(start_client_internal._pull_and_store_message, SETTINGS_READ)
    start_parent_process_monitor(os.getppid())  # no node without its executor
    quick = SimpleNamespace(**vars(time))
    quick.sleep = lambda seconds: time.sleep(min(seconds, POLL_SECONDS))
    ending = _Ending()
    for name, part in (
        ("time", quick),
        ("_pull_and_store_message", ending.pull),
        ("_push_messages", ending.push),
        ("register_signal_handlers", ending.register),
        ("get_fused_config_from_fab", settings_of),
    ):
        setattr(start_client_internal, name, part)
    sys.argv[1:1] = ["--isolation", "process"]
    try:
        flower_supernode()  # ends by an exit, or has given up: Flower may log that and return
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # its server's thread would keep a node that gave up alive, and deaf


if __name__ == "__main__":
    main()
