"""Work in processes that may crash, hang or swallow memory, one file at a time.

Decoders are written in C and meet broken files. A worker that dies takes one item with it; another
takes its place and the rest goes on. Pools of the standard library do not: a dead worker breaks
`ProcessPoolExecutor` whole, and none of them limits time or memory of one item.
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

SECONDS = 60
"""Time for one file. A 12-bit JPEG 2000 image of 4 million pixels takes less than one second."""
MEMORY_MIB = 2048
"""Memory for one file beyond what an idle worker has."""
GRACE = 5
"""Seconds after which a worker that did not obey its own alarm is killed from outside."""
START_SECONDS = 120
"""Time for a worker to start: it imports libraries, perhaps from a slow disk, on a busy machine."""


@dataclass(frozen=True)
class Failure:
    """An item that was given up, and why."""

    reason: str


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    deadline: float
    ready: bool = False
    item: int | None = None

    def give(self, item: int, function: Callable[..., Any], arguments: object, by: float) -> None:
        """Hand it an item, to be answered by `by` (monotonic seconds)."""
        self.item, self.deadline = item, by
        with suppress(OSError):  # it died while idle: its end shows below
            self.connection.send((function, arguments))

    def stop(self) -> int:
        """End the process; its exit status, negative for a signal."""
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(0.5)
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel is left behind
            return self.process.wait(GRACE)
        return -signal.SIGKILL


def run(  # noqa: PLR0912 - one loop, every way an item can end
    function: Callable[..., Any],
    items: Sequence[tuple[Any, ...]],
    *,
    workers: int = 0,
    seconds: int = SECONDS,
    memory_mib: int = MEMORY_MIB,
) -> Generator[tuple[int, Any]]:
    """Yield (number of the item, `function(*item)` or a Failure) as they finish.

    `function` stands at the top of a module, for it is called in other processes. `workers`: 0 for
    one per core. What the function raises is a Failure too. Closing the iterator ends the workers
    that are at work; idle ones stay for the next call, and end with this process, however it ends.
    Raises RuntimeError where no worker can be started.
    """
    wanted = min(workers or os.cpu_count() or 1, len(items))
    waiting = iter(range(len(items)))
    team: list[_Worker] = []

    def occupy(worker: _Worker) -> None:
        item = next(waiting, None)
        if item is not None:
            worker.give(item, function, items[item], time.monotonic() + seconds + GRACE)

    try:
        for _ in range(wanted):
            team.append(_hire(seconds, memory_mib))
            if team[-1].ready:
                occupy(team[-1])
        while busy := [w for w in team if w.item is not None or not w.ready]:
            until = max(0.0, min(w.deadline for w in busy) - time.monotonic())
            wait([w.connection for w in busy], timeout=until)
            for worker in busy:
                # Asked anew: whoever iterates may have taken long, which makes no worker late.
                answered = worker.connection.poll()
                if not answered and time.monotonic() <= worker.deadline:
                    continue
                item, worker.item = worker.item, None
                try:
                    result = worker.connection.recv() if answered else _late(worker, seconds)
                except Exception:  # it died, or sent rubbish after damage to its memory
                    result = Failure(_why(worker.stop(), seconds))
                    answered = False
                if answered:
                    worker.ready = True
                    occupy(worker)
                elif item is None:
                    raise RuntimeError(f"no worker process can be started: {result.reason}")
                else:
                    team[team.index(worker)] = _start(seconds, memory_mib)
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
"""Workers between two calls: process that started them, limits, worker. To start one takes more
than a second of imports, many times what a small cohort takes."""


def _hire(seconds: int, memory_mib: int) -> _Worker:
    """An idle worker of these limits, or a new one."""
    for place, (process, *limits, worker) in enumerate(_idle):
        if process == os.getpid() and limits == [seconds, memory_mib]:
            del _idle[place]
            return worker if worker.process.poll() is None else _start(seconds, memory_mib)
    return _start(seconds, memory_mib)


@atexit.register
def end_idle_workers() -> None:
    """End the workers that wait for a next call."""
    while _idle:
        process, *_, worker = _idle.pop()
        if process == os.getpid():
            worker.stop()


def _late(worker: _Worker, seconds: int) -> Failure:
    worker.process.kill()
    worker.stop()
    return Failure(_why(-signal.SIGALRM, seconds))


def _why(status: int, seconds: int) -> str:
    if status == -signal.SIGALRM:
        return f"not decoded within {seconds} s"
    if status == -signal.SIGKILL:
        return "the decoder was killed, perhaps by the system for lack of memory"
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return f"the decoder crashed ({name})"


def _start(seconds: int, memory_mib: int) -> _Worker:
    here, there = socket.socketpair()
    code = (
        "from fedrad.client.images.worker_processes import serve; "
        f"serve({there.fileno()}, {seconds}, {memory_mib})"
    )
    with there:
        process = subprocess.Popen(
            # -P: no module is taken from the folder someone happens to stand in.
            [sys.executable, "-P", "-c", code],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # decoders in C print what they like, file contents too
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    return _Worker(process, Connection(here.detach()), time.monotonic() + START_SECONDS)


def serve(descriptor: int, seconds: int, memory_mib: int) -> None:
    """The life of a worker: say that it is there, then answer items until the parent is gone."""
    connection = Connection(descriptor)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    _limit_memory(memory_mib)
    with suppress(EOFError, ConnectionError):  # the parent is gone
        connection.send(None)
        while True:
            function, arguments = connection.recv()
            # The default action of this signal ends the process wherever it is, in C code too.
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
    """Cap what the process may allocate (Linux: private writable memory) above what it has now."""
    with suppress(OSError, ValueError):
        with open("/proc/self/status", encoding="ascii") as status:
            used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
        limit = used + memory_mib * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold a patient's image
