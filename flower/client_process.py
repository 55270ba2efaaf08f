"""The process that handles a site's messages, in place of Flower's client process.

Flower starts a new Python process for each message, which imports libraries for seconds and runs
the code of the bundle. Here one process imports once and forks a child for each message. State is
still separate for each message, but there is no delay. A bundle is checked before it is unpacked,
and the site decides what it sends after a failure.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flwr.app import Context, Message

from fedrad.system.process_family import end_with_parent, start_child
from fedrad.system.secrets import inherited_descriptors

from .bundles import NOT_UNPACKED, BundleNotApprovedError, check_bundle
from .internals import (
    AcquireTaskRequest,
    TaskType,
    replace,
    run_clientapp,
)
from .local_socket import LOCAL, use_socket
from .runtime_api import runtime_socket
from .task_loop import task_client

TASK_POLL_SECONDS = 0.1
_child: list[int] = []
"""Id of the child that handles a message; empty between messages."""
log = logging.getLogger("fedrad.site")


@dataclass(frozen=True)
class OutgoingFilter:
    """Filters for the two outputs of Flower's client process that leave a site."""

    message: Callable[[Message, Context], Message]
    """A reply, or an error instead of one -> the message that may leave."""
    details: Callable[[str], str]
    """Text of the exception that ended the process -> the text that may leave."""


def run_node(prepare: Callable[[], None], outgoing: OutgoingFilter, supernode: str) -> None:
    """Run a SuperNode, and its tasks in forks of this process, until the SuperNode ends.

    The command line holds the arguments of `flower-supernode`. All processes end with this one.

    Parameters
    ----------
    prepare
        Imports the modules that every message needs. It runs while the SuperNode connects, and
        children inherit the modules.
    outgoing
        Filters for all that leaves.
    supernode
        Name of the module that runs as the SuperNode.

    Raises
    ------
    FlowerMovedError
        If Flower has changed; raised before any process starts.
    """
    guard_client_process(outgoing)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--auth-supernode-private-key", dest="key", default="")
    in_memory = inherited_descriptors(parser.parse_known_args()[0].key)
    node = start_child(
        [sys.executable, "-m", supernode, *sys.argv[1:]],
        environment=dict(os.environ),
        descriptors=in_memory,
    )
    for descriptor in in_memory:  # this process, which works on messages, needs no key
        os.close(descriptor)

    def end(number: int, frame: FrameType | None) -> None:
        """SIGTERM finishes the current message first; SIGINT abandons it."""
        node.send_signal(number)
        if number == signal.SIGINT and _child:
            os.kill(_child[0], signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    prepare()
    run_tasks(runtime_socket(), lambda: node.poll() is None)
    raise SystemExit(node.wait())


def guard_client_process(outgoing: OutgoingFilter) -> None:
    """Replace functions of Flower's client process, so that every bundle is checked before it is
    unpacked, and all that leaves is filtered by `outgoing`. Raises FlowerMovedError."""

    def install_approved(content: bytes, *, skip_prompt: bool) -> Path:
        check_bundle(content)
        try:
            path: Path = install(content, skip_prompt=skip_prompt)
        except OSError as error:  # its text names a path and would be sent
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


def run_tasks(socket: Path, is_running: Callable[[], bool]) -> None:
    """Run the tasks of a SuperNode, one at a time, each in a fork of this process.

    Parameters
    ----------
    socket
        The SuperNode's interface for tasks; its folder must exist.
    is_running
        Whether the SuperNode still runs; the function returns when it does not.
    """
    use_socket(socket)
    client = task_client()
    request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    while is_running():
        try:
            task = client.AcquireTask(request)
        except Exception as error:
            log.warning("the SuperNode does not answer yet: %s", type(error).__name__)
            time.sleep(1)
            continue
        if task.token:
            _run_in_child(task.token)
        time.sleep(TASK_POLL_SECONDS)


def _run_in_child(token: str) -> None:
    parent = os.getpid()
    child = os.fork()
    if child:
        _child.append(child)
        os.waitpid(child, 0)
        _child.clear()
        return
    status = 1
    try:
        end_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        run_clientapp(
            runtime_api_address=LOCAL,
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
