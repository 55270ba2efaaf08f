"""Takes the tasks that a server of Flower hands out, and works on each in a fork of this process.

Flower starts a new Python process for each task, which imports libraries for seconds, and gives it
the key to the task on its command line, where every user of the machine can read it. Here one
process imports once, and the key does not leave it.
"""

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from fedrad.system.process_family import end_with_parent

from .internals import (
    AcquireTaskRequest,
    RuntimeHttpClient,
    RuntimeTracingInterceptor,
    RuntimeVersionHttpInterceptor,
    TaskType,
    make_simple_http_retry_invoker,
)
from .local_socket import LOCAL

POLL_SECONDS = 0.3
END_SECONDS = 8.0
"""How long the tasks may take to end after SIGTERM."""
log = logging.getLogger("fedrad.superlink")


def task_client() -> RuntimeHttpClient:
    """A client of the server of tasks at the socket in use. It tries once: a loop asks again."""
    retries = make_simple_http_retry_invoker()
    retries.max_tries = 1
    return RuntimeHttpClient.from_server_address(
        server_address=LOCAL,
        insecure=True,
        root_certificates=None,
        interceptors=[
            RuntimeTracingInterceptor(),
            RuntimeVersionHttpInterceptor(component_name="SuperExec"),
        ],
        retry_invoker=retries,
    )


class TaskLoop:
    """Works on all tasks of one kind, side by side.

    Parameters
    ----------
    kind
        The kind of task; no other is ever taken.
    work
        Works on a task, given its key, in a child of this process.
    """

    def __init__(self, kind: TaskType, work: Callable[[str], None]) -> None:
        self._request = AcquireTaskRequest(supported_task_types=[kind])
        self._work = work
        self._children: set[int] = set()
        self._client = task_client()

    def run(self) -> None:
        """Take tasks until SIGTERM, then end those that are at work."""

        def end(number: int, frame: FrameType | None) -> None:
            raise SystemExit(0)

        signal.signal(signal.SIGTERM, end)
        try:
            while True:
                self._reap()
                token = self._acquire()
                if token:
                    self._start(token)
                else:
                    time.sleep(POLL_SECONDS)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._end_children()

    def _acquire(self) -> str:
        try:
            return str(self._client.AcquireTask(self._request).token)
        except Exception as error:
            log.debug("the SuperLink does not answer: %s", type(error).__name__)
            return ""

    def _start(self, token: str) -> None:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        # a signal between these lines would be taken for the parent's in the child, or miss a child
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        if child := os.fork():
            self._children.add(child)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            return
        status = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            end_with_parent(parent)
            self._work(token)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        for child in list(self._children):
            if os.waitpid(child, os.WNOHANG)[0]:
                self._children.discard(child)

    def _end_children(self) -> None:
        for number, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
            for child in self._children:
                with suppress(ProcessLookupError):
                    os.kill(child, number)
            end = time.monotonic() + seconds
            while self._children and time.monotonic() < end:
                self._reap()
                time.sleep(0.05)
