"""All processes of a Flower, whatever sessions and groups it makes for them: found and ended.

They are known by their environment, where `FLWR_HOME` lies in one folder.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

END_SECONDS = 5.0
"""How long processes may take to end after SIGTERM."""


def end_processes_of(folder: Path) -> None:
    """End all processes of a folder; those that do not go at a word are killed."""
    patience = time.monotonic() + END_SECONDS
    asked: set[int] = set()
    while left := processes_of(folder):
        killed = time.monotonic() > patience
        for pid in left if killed else left - asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if killed else signal.SIGTERM)
        asked |= left
        time.sleep(0.1)


def processes_of(folder: Path) -> set[int]:
    """Ids of all processes whose `FLWR_HOME` lies in a folder, and of all their children.

    Their children too, as Ray's workers overwrite their environment. Empty where there is no
    /proc.
    """
    mark = f"FLWR_HOME={folder}{os.sep}".encode()
    found: set[int] = set()
    parents: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or somebody else's
            state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            if state == "Z":
                continue
            parents[int(process.name)] = int(parent)
            if any(v.startswith(mark) for v in (process / "environ").read_bytes().split(b"\0")):
                found.add(int(process.name))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def start_keeper(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that clears a folder and its processes up where this program was killed."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(os.getpid()), str(folder)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _keep(parent: int, folder: Path) -> None:
    """Wait for the program that made the folder. If it was killed, clear up in its place."""
    while os.getppid() == parent:
        time.sleep(0.5)
    end_processes_of(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _keep(int(sys.argv[1]), Path(sys.argv[2]))
