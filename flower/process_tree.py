"""Finding and ending all processes that belong to one instance of Flower.

Flower and Ray start processes in several sessions and process groups. They are recognised by their
environment: `FLWR_HOME` is in one folder.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from fedrad.system.private import make_private

END_SECONDS = 5.0
"""Time that processes have to end after SIGTERM, before they are killed."""


def end_processes_of(folder: Path) -> None:
    """End all processes of a folder; those that ignore SIGTERM are killed."""
    deadline = time.monotonic() + END_SECONDS
    asked: set[int] = set()
    while left := processes_of(folder):
        killed = time.monotonic() > deadline
        for pid in left if killed else left - asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if killed else signal.SIGTERM)
        asked |= left
        time.sleep(0.1)


def processes_of(folder: Path) -> set[int]:
    """Ids of the processes of a folder's owner whose `FLWR_HOME` is in it, with descendants.

    Descendants are included because Ray's workers overwrite their environment. Empty on systems
    without /proc.
    """
    mark = f"FLWR_HOME={folder}{os.sep}".encode()
    owner = folder.stat().st_uid if folder.exists() else os.geteuid()
    pids: set[int] = set()
    parents: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended, or belongs to another user
            state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            if state == "Z":
                continue
            parents[int(process.name)] = int(parent)
            if process.stat().st_uid != owner:
                continue  # anybody can give a process of his own this environment
            if any(v.startswith(mark) for v in (process / "environ").read_bytes().split(b"\0")):
                pids.add(int(process.name))
    while more := {pid for pid, parent in parents.items() if parent in pids} - pids:
        pids |= more
    return pids


def start_watchdog(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that removes a folder and its processes if this program is killed."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(os.getpid()), str(folder)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _watch(parent: int, folder: Path) -> None:
    """Wait until the parent has ended, then end the processes of the folder and remove it."""
    while os.getppid() == parent:
        time.sleep(0.5)
    end_processes_of(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    make_private()
    _watch(int(sys.argv[1]), Path(sys.argv[2]))
