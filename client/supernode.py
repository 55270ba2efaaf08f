"""`flower-supernode`, with its own arguments, looking for messages more often, and ending well.

SIGTERM ends it at once where nothing is in hand, else when the answer to the message in hand has
been sent; SIGINT, or a second SIGTERM, at once.
"""

from fedrad.exchange.quiet import be_quiet

be_quiet()

import inspect
import os
import signal
import sys
import time
from types import FrameType, SimpleNamespace
from typing import Any

import flwr
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supernode import start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode

POLL_SECONDS = 0.5
"""How often the coordinator is asked for messages; Flower's own is 3 s."""


class FlowerMovedError(Exception):
    """A part of Flower is not where fedrad replaces it."""


def check_part(part: object, line: str) -> None:
    """Raise FlowerMovedError where a function of Flower does not have the line that is replaced."""
    if line not in inspect.getsource(part):  # type: ignore[arg-type]
        raise FlowerMovedError(
            f"flwr {flwr.__version__}: {getattr(part, '__module__', part)} has no line {line!r}; "
            "install the flwr of fedrad's constraints"
        )


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
    start = start_client_internal.start_client_internal
    for line in ("time.sleep(3)", "run_id = _pull_and_store_message(\n", "_push_messages(\n",
                 "register_signal_handlers(\n"):  # fmt: skip
        check_part(start, line)
    start_parent_process_monitor(os.getppid())  # no node without its executor
    quick = SimpleNamespace(**vars(time))
    quick.sleep = lambda seconds: time.sleep(min(seconds, POLL_SECONDS))
    ending = _Ending()
    for name, part in (
        ("time", quick), ("_pull_and_store_message", ending.pull),
        ("_push_messages", ending.push), ("register_signal_handlers", ending.register),
    ):  # fmt: skip
        setattr(start_client_internal, name, part)
    sys.argv[1:1] = ["--isolation", "process"]
    flower_supernode()


if __name__ == "__main__":
    main()
