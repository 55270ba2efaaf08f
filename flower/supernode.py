"""`flower-supernode`, with the same arguments, but with a Unix socket instead of a port, a check of
all that leaves, frequent polling and a graceful end.

SIGTERM ends it after the reply to the current message has been sent, or at once if there is none.
SIGINT or a second SIGTERM ends it at once.
"""

import argparse
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

from .bundles import BundleNotApprovedError, check_bundle
from .coordinator_transport import use_coordinator
from .internals import (
    flower_supernode,
    get_fused_config_from_fab,
    replace,
)
from .last_check import OutgoingRecord, install_last_check
from .local_socket import use_socket
from .log_lines import NO_WAY
from .request_signing import sign_requests
from .route_faults import RouteFault
from .runtime_api import serve_at_socket

log = logging.getLogger("fedrad.node")
POLL_SECONDS = 0.5
"""How often the coordinator is asked for messages; 3 s in Flower."""


def bundle_settings(content: bytes, run: Any) -> dict[str, Any]:
    """Read the settings of a bundle; replaces a function of Flower.

    Flower's function unpacks the project file in memory, whatever its size, before the client
    process checks the bundle. This one returns no settings for a bundle that is not fedrad's; the
    client process then refuses the bundle.

    Parameters
    ----------
    content
        The bundle, a zip archive.
    run
        Flower's description of the run, with the settings that override those of the bundle.

    Returns
    -------
    dict[str, Any]
        The configuration of the run.
    """
    try:
        check_bundle(content)
    except BundleNotApprovedError:
        return {}
    return dict(get_fused_config_from_fab(content, run))


class GracefulEnd:
    """Lets the node reply to the current message before it ends.

    Wraps three functions of Flower's main loop. Raises FlowerMovedError.
    """

    def __init__(self) -> None:
        self._at_work = False
        self._wanted = False
        loop = "start_client_internal"
        self._pull = replace(loop, "_pull_and_store_message", self._pull_message)
        self._push = replace(loop, "_push_messages", self._push_reply)
        self._register = replace(loop, "register_signal_handlers", self._register_handlers)

    def _pull_message(self, **arguments: Any) -> int | None:
        run: int | None = self._pull(**arguments)
        self._at_work = run is not None
        return run

    def _push_reply(self, **arguments: Any) -> None:
        self._push(**arguments)
        self._at_work = False
        if self._wanted:
            signal.raise_signal(signal.SIGINT)

    def _register_handlers(self, **arguments: Any) -> None:
        """Register Flower's handlers of signals, and another one before that of SIGTERM."""
        self._register(**arguments)
        at_once = signal.getsignal(signal.SIGTERM)
        assert callable(at_once)

        def end(number: int, frame: FrameType | None) -> None:
            if self._at_work and not self._wanted:
                self._wanted = True
                return
            at_once(number, frame)

        signal.signal(signal.SIGTERM, end)


def _use_superlink() -> None:
    """Lead the way to the SuperLink of the command line: `--superlink-socket PATH` on this machine,
    or the coordinator at `--superlink HOST:PORT`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--superlink-socket", type=Path)
    parser.add_argument("--superlink")
    given, further = parser.parse_known_args()
    if given.superlink is not None:
        sys.argv[1:] = [*further, "--superlink", given.superlink]
    if given.superlink_socket is not None:
        use_socket(given.superlink_socket)
    elif given.superlink is not None:
        use_coordinator(given.superlink, _log_fault)


def _log_fault(fault: RouteFault) -> None:
    """Log what keeps this node from the coordinator. Flower's own lines do not say it."""
    if fault.step != "answer":  # once there is a way, Flower asks again and says so
        log.error("%s%s", NO_WAY, fault.text)


def main(record_of: Callable[[Mapping[str, Any]], OutgoingRecord]) -> None:
    """Run the SuperNode until it gets a signal to end.

    Parameters
    ----------
    record_of
        Configuration of the node -> the site's record of what may leave.

    Raises
    ------
    FlowerMovedError
        If Flower has changed.
    """
    quick = SimpleNamespace(**vars(time))
    quick.sleep = lambda seconds: time.sleep(min(seconds, POLL_SECONDS))
    replace("start_client_internal", "time", quick)
    replace("_pull_and_store_message", "get_fused_config_from_fab", bundle_settings)
    sign_requests()
    install_last_check(record_of)
    GracefulEnd()
    _use_superlink()
    serve_at_socket()
    sys.argv[1:1] = ["--isolation", "process"]
    try:
        flower_supernode()  # exits, or logs why it gave up and returns
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # the thread of its server would keep a node alive that has given up
