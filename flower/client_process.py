"""The process that works on a site's messages: Flower's client process, forked and guarded.

Flower starts a new Python for each message, which imports for seconds what the last one had, and
runs whatever code the bundle holds. Here one process imports once and forks a child for each
message: the state of a visit is as separate, the wait is gone, the bundle is checked before
anything of it is unpacked, and what leaves when something fails is decided by the site.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flwr.app import Context, Message

from .bundles import NOT_UNPACKED, BundleNotApprovedError, approve
from .internals import (
    AcquireTaskRequest,
    RuntimeHttpClient,
    RuntimeTracingInterceptor,
    RuntimeVersionHttpInterceptor,
    TaskType,
    make_simple_http_retry_invoker,
    replace,
    run_clientapp,
)

TASK_POLL_SECONDS = 0.1
_child: list[int] = []
"""The process that works on a message, while one does."""
log = logging.getLogger("fedrad.site")


@dataclass(frozen=True)
class Outgoing:
    """What may leave a site by the two ways in which Flower's client process speaks."""

    message: Callable[[Message, Context], Message]
    """An answer, or the error in its place -> the same as it may leave."""
    details: Callable[[str], str]
    """Text of the exception that ended the process -> what may be told of it."""


def run_node(prepare: Callable[[], None], outgoing: Outgoing) -> None:
    """Run a SuperNode, and its tasks in forks of this process. Ends when the SuperNode does.

    Takes the arguments of `flower-supernode` from the command line.

    Parameters
    ----------
    prepare
        Imports what every message needs, while the SuperNode connects: children inherit it.
    outgoing
        What may leave.

    Raises
    ------
    FlowerMovedError
        Before anything has started.
    """
    guard(outgoing)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--port", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    known, _ = parser.parse_known_args()
    supernode = subprocess.Popen(
        [sys.executable, "-m", "fedrad.flower.supernode", "--host", known.host, *sys.argv[1:]]
    )

    def end(number: int, frame: FrameType | None) -> None:
        """SIGTERM: the message at work is answered first. SIGINT: it is abandoned."""
        supernode.send_signal(number)
        if number == signal.SIGINT and _child:
            os.kill(_child[0], signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    prepare()
    run_tasks(f"{known.host}:{known.port}", lambda: supernode.poll() is None)
    raise SystemExit(supernode.wait())


def guard(outgoing: Outgoing) -> None:
    """Have every bundle checked in the place of the code that unpacks it, and everything that
    leaves pass through `outgoing`. Raises FlowerMovedError."""

    def install_approved(content: bytes, *, skip_prompt: bool) -> Path:
        approve(content)
        try:
            path: Path = install(content, skip_prompt=skip_prompt)
        except OSError as error:  # its text would leave, and names a path
            log.error("the bundle cannot be unpacked: %s", error)
            raise BundleNotApprovedError(NOT_UNPACKED) from None
        return path

    def push_permitted(client: Any, message: Message, context: Context) -> None:
        push_message(client, outgoing.message(message, context), context)

    def push_end(client: Any, context: Context | None, sub_status: str, details: str) -> None:
        push_task_output(client, context, sub_status, outgoing.details(details) if details else "")

    install = replace("run_clientapp", "install_from_fab", install_approved)
    push_message = replace("run_clientapp", "push_message", push_permitted)
    push_task_output = replace("run_clientapp", "push_task_output", push_end)


def run_tasks(address: str, lives: Callable[[], bool]) -> None:
    """Run the tasks of a SuperNode, one at a time, each in a fork of this process.

    Parameters
    ----------
    address
        `HOST:PORT` at which the SuperNode gives tasks out, on loopback.
    lives
        Whether the SuperNode still runs; the tasks end with it.
    """
    retries = make_simple_http_retry_invoker()
    retries.max_tries = 1  # the loop below is the patient one
    client = RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,
        root_certificates=None,
        interceptors=[
            RuntimeTracingInterceptor(),
            RuntimeVersionHttpInterceptor(component_name="SuperExec"),
        ],
        retry_invoker=retries,
    )
    request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    while lives():
        try:
            task = client.AcquireTask(request)
        except Exception as error:
            log.warning("the SuperNode does not answer yet: %s", type(error).__name__)
            time.sleep(1)
            continue
        if task.token:
            _run_in_child(address, task.token)
        time.sleep(TASK_POLL_SECONDS)


def _run_in_child(address: str, token: str) -> None:
    parent = os.getpid()
    child = os.fork()
    if child:
        _child.append(child)
        os.waitpid(child, 0)
        _child.clear()
        return
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        run_clientapp(
            runtime_api_address=address,
            token=token,
            insecure=True,
            parent_pid=parent,
            runtime_dependency_install=False,
        )
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
