"""The site's node: Flower's SuperNode, with an executor of our own for its tasks.

Flower starts a new Python for each message, which imports for seconds what the last one had, and
runs whatever code the bundle holds. Here one process imports once and forks a child for each
message: the state of a visit is as separate, the wait is gone, and the bundle is checked before
anything of it is unpacked.

    python -m fedrad.client.node.executor --insecure --superlink HOST:PORT --port PORT
        --node-config …

takes the arguments of `flower-supernode`. What it replaces of Flower is private there; where a part
has moved, it refuses to start.
"""

from fedrad.system.no_telemetry import be_quiet

be_quiet()

import argparse
import importlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.runtime.tracing import RuntimeTracingInterceptor
from flwr.supernode.runtime import run_clientapp

from fedrad.flower.bundles import NOT_UNPACKED, BundleNotApprovedError, approve

from .outgoing_errors import scrub
from .supernode import check_part

TASK_POLL_SECONDS = 0.1
NEEDED = ("fedrad.client.app", "monai.networks.layers")
"""What a visit needs, and would import for seconds: PyTorch with the first."""
REPLACED = (
    "install_from_fab(fab.content, skip_prompt=True)",
    "push_message(client, reply_message, context)",
    "push_task_output(\n            client=client,",
)
"""Lines of Flower's client process in which something is replaced."""
_child: list[int] = []
"""The process that works on a message, while one does."""
log = logging.getLogger("fedrad.site")


def run_executor(address: str, supernode: "subprocess.Popen[bytes]") -> None:
    """Run the SuperNode's tasks, one at a time, each in a fork of this process, until it ends."""
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
    while supernode.poll() is None:
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
        run_clientapp.run_clientapp(
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


def guard() -> None:
    """Have every bundle checked in the place of the code that unpacks it, and every exception's
    text kept here. Raises FlowerMovedError where these are not where they were."""
    for line in REPLACED:
        check_part(run_clientapp.run_clientapp, line)
    install = getattr(run_clientapp, "install_from_fab")  # noqa: B009 private to Flower

    def guarded(content: bytes, *, skip_prompt: bool) -> Path:
        approve(content)
        try:
            path: Path = install(content, skip_prompt=skip_prompt)
        except OSError as error:  # its text would leave, and names a path
            log.error("the bundle cannot be unpacked: %s", error)
            raise BundleNotApprovedError(NOT_UNPACKED) from None
        return path

    setattr(run_clientapp, "install_from_fab", guarded)  # noqa: B010
    scrub(run_clientapp)


def import_what_visits_need() -> None:
    """Import once, while the SuperNode connects: every child inherits it."""
    for name in NEEDED:
        importlib.import_module(name)


def main() -> None:
    """Run a SuperNode, and its tasks in forks of this process. Ends when the SuperNode does."""
    guard()
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--port", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    known, _ = parser.parse_known_args()
    supernode = subprocess.Popen(
        [sys.executable, "-m", "fedrad.client.node.supernode", "--host", known.host, *sys.argv[1:]]
    )

    def end(number: int, frame: FrameType | None) -> None:
        """SIGTERM: the message in hand is answered first. SIGINT: it is abandoned."""
        supernode.send_signal(number)
        if number == signal.SIGINT and _child:
            os.kill(_child[0], signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    import_what_visits_need()
    run_executor(f"{known.host}:{known.port}", supernode)
    raise SystemExit(supernode.wait())


if __name__ == "__main__":
    main()
