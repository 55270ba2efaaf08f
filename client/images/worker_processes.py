"""Worker processes that may crash, hang or use too much memory without harm to the caller.

Decoders are written in C, and files may be broken. If a worker dies, only its item is lost: a new
worker replaces it and the rest continues. The pools of the standard library cannot do this: a dead
worker breaks a whole `ProcessPoolExecutor`, and none limits the time or memory of one item.
"""

import atexit
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from fedrad.system.private import forbid_core_files
from fedrad.system.process_family import end_with_parent, start_child
from fedrad.system.resources import free_memory, usable_cores

ITEM_SECONDS = 60
"""Time limit of one item. A 12-bit JPEG 2000 image of 4 million pixels takes less than 1 s."""
MEMORY_MIB = 2048
"""Memory limit of one item, beyond the memory of an idle worker."""
WORKER_MIB = 256
"""Memory that a worker uses, by which their number is chosen: 70 MiB idle, and the image."""
GRACE_SECONDS = 5
"""Time after which a worker is killed if its own alarm did not end it."""
START_SECONDS = 120
"""Time limit for a worker to start: imports can take long on a busy machine with a slow disk."""


@dataclass(frozen=True)
class Failure:
    """An item that could not be processed, with the reason."""

    reason: str


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    deadline: float
    """Monotonic time, in seconds, by which it must answer."""
    ready: bool = False
    """Whether it has started."""
    item: int | None = None
    """Index of the item in progress; None if it is idle."""

    def send(self, item: int, function: Callable[..., Any], arguments: object, by: float) -> None:
        """Send an item to the worker, with the deadline `by`."""
        self.item, self.deadline = item, by
        with suppress(OSError):  # it died while idle, which `run_isolated` notices
            self.connection.send((function, arguments))

    def stop(self) -> int:
        """End the process and return its exit status, negative for a signal."""
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(0.5)
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):  # a process that hangs in the kernel is abandoned
            return self.process.wait(GRACE_SECONDS)
        return -signal.SIGKILL


def decoders() -> int:
    """Number of worker processes for this machine: one for each core that this process may use, and
    fewer where memory is short."""
    memory = free_memory()
    enough = memory // (WORKER_MIB * 2**20) if memory is not None else usable_cores()
    return max(1, min(usable_cores(), enough))


def run_isolated(  # noqa: PLR0912 - one loop with all outcomes of an item
    function: Callable[..., Any],
    items: Sequence[tuple[Any, ...]],
    *,
    workers: int = 0,
    seconds: int = ITEM_SECONDS,
    memory_mib: int = MEMORY_MIB,
) -> Generator[tuple[int, Any]]:
    """Call a function for each item in worker processes; yield results as they finish.

    Closing the iterator ends the busy workers. Idle workers stay for the next call, and end when
    this process ends, even if it is killed.

    Parameters
    ----------
    function
        Defined at the top level of a module, because other processes import it.
    items
        Arguments of each call.
    workers
        Number of processes; 0 for as many as `decoders` says.
    seconds, memory_mib
        Limits of one item.

    Yields
    ------
    tuple
        Index of the item, and the return value or a Failure. An exception is a Failure too.

    Raises
    ------
    RuntimeError
        If no worker can be started.
    """
    wanted = min(workers or decoders(), len(items))
    waiting = iter(range(len(items)))
    team: list[_Worker] = []

    def occupy(worker: _Worker) -> None:
        item = next(waiting, None)
        if item is not None:
            worker.send(item, function, items[item], time.monotonic() + seconds + GRACE_SECONDS)

    try:
        for _ in range(wanted):
            team.append(_idle_or_new_worker(seconds, memory_mib))
            if team[-1].ready:
                occupy(team[-1])
        while busy := [w for w in team if w.item is not None or not w.ready]:
            until = max(0.0, min(w.deadline for w in busy) - time.monotonic())
            wait([w.connection for w in busy], timeout=until)
            for worker in busy:
                # Poll again: a consumer that takes long between items makes no worker late.
                answered = worker.connection.poll()
                if not answered and time.monotonic() <= worker.deadline:
                    continue
                item, worker.item = worker.item, None
                try:
                    result = (
                        worker.connection.recv() if answered else _kill_late_worker(worker, seconds)
                    )
                except Exception:  # it died, or its memory was damaged and it sent rubbish
                    result = Failure(_crash_reason(worker.stop(), seconds))
                    answered = False
                if answered:
                    worker.ready = True
                    occupy(worker)
                elif item is None:
                    raise RuntimeError(f"no worker process can be started: {result.reason}")
                else:
                    team[team.index(worker)] = _start_worker(seconds, memory_mib)
                if item is not None:
                    yield item, result
    finally:
        for worker in team:
            if worker.item is None and worker.ready:
                _idle.append((os.getpid(), seconds, memory_mib, worker))
            else:
                worker.process.kill()
                worker.stop()


_idle: list[tuple[int, int, int, _Worker]] = []
"""Workers between two calls: process id of the parent, limits, worker. They are reused because the
imports of a new worker take more than a second."""


def _idle_or_new_worker(seconds: int, memory_mib: int) -> _Worker:
    """An idle worker with these limits, or a new one."""
    for place, (process, *limits, worker) in enumerate(_idle):
        if process == os.getpid() and limits == [seconds, memory_mib]:
            del _idle[place]
            return worker if worker.process.poll() is None else _start_worker(seconds, memory_mib)
    return _start_worker(seconds, memory_mib)


@atexit.register
def end_idle_workers() -> None:
    """End the workers that wait for the next call."""
    while _idle:
        process, *_, worker = _idle.pop()
        if process == os.getpid():
            worker.stop()


def _kill_late_worker(worker: _Worker, seconds: int) -> Failure:
    worker.process.kill()
    worker.stop()
    return Failure(_crash_reason(-signal.SIGALRM, seconds))


def _crash_reason(status: int, seconds: int) -> str:
    if status == -signal.SIGALRM:
        return f"not decoded within {seconds} s"
    if status == -signal.SIGKILL:
        return "the decoder was killed, perhaps by the system for lack of memory"
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return f"the decoder crashed ({name})"


def _start_worker(seconds: int, memory_mib: int) -> _Worker:
    here, there = socket.socketpair()
    code = (
        "from fedrad.client.images.worker_processes import serve_items; "
        f"serve_items({there.fileno()}, {seconds}, {memory_mib})"
    )
    with there:
        process = start_child(
            # -P: import no module from the current working directory.
            [sys.executable, "-P", "-c", code],
            descriptors=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # C decoders may print anything, even file contents
            start_new_session=True,  # Ctrl-C goes to the parent, which then ends its workers
            environment={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    return _Worker(process, Connection(here.detach()), time.monotonic() + START_SECONDS)


def serve_items(descriptor: int, seconds: int, memory_mib: int) -> None:
    """Main loop of a worker: report that it is ready, then answer items until the parent ends."""
    end_with_parent()
    connection = Connection(descriptor)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    _limit_memory(memory_mib)
    with suppress(EOFError, ConnectionError):  # the parent has ended
        connection.send(None)
        while True:
            function, arguments = connection.recv()
            # The default action of SIGALRM ends the process at any point, even in C code.
            signal.alarm(seconds)
            try:
                result = function(*arguments)
            except MemoryError:
                result = Failure(f"decoding needs more than {memory_mib} MiB of memory")
            except Exception as error:
                result = Failure(f"unexpected {type(error).__name__} while reading")
            signal.alarm(0)
            connection.send(result)


def _limit_memory(memory_mib: int) -> None:
    """Limit how much more memory (Linux: private writable) the process may allocate from now on."""
    with suppress(OSError, ValueError):
        with open("/proc/self/status", encoding="ascii") as status:
            used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
        limit = used + memory_mib * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    forbid_core_files()  # one would contain a patient's image
