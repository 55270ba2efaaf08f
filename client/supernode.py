"""`flower-supernode`, with its own arguments, looking for messages more often."""

from fedrad.exchange.quiet import be_quiet

be_quiet()

import inspect
import os
import sys
import time
from types import SimpleNamespace

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


def main() -> None:
    """Run the SuperNode until it is told to end."""
    check_part(start_client_internal.start_client_internal, "time.sleep(3)")
    start_parent_process_monitor(os.getppid())  # no node without its executor
    quick = SimpleNamespace(**vars(time))
    quick.sleep = lambda seconds: time.sleep(min(seconds, POLL_SECONDS))
    setattr(start_client_internal, "time", quick)  # noqa: B010 private to Flower
    sys.argv[1:1] = ["--isolation", "process"]
    flower_supernode()


if __name__ == "__main__":
    main()
