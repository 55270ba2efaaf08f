"""Processes that end with the one that started them, and hold its lock for as long as they live.

A process that is killed cannot end its children. So each child asks the system for that: it is
killed when its parent ends, however that ends. Children also inherit the descriptor of a lock
(`files.locked`), so that the lock is free only when the last of them is gone.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

PARENT = "FEDRAD_PARENT"
"""Environment variable: id of the process that started this one."""
LOCK = "FEDRAD_LOCK"
"""Environment variable: descriptor of the family's lock, which every child gets."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start_child(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    descriptors: Sequence[int] = (),
    lock: int | None = None,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start a program of fedrad that calls `end_with_parent` first.

    The system watches the thread that calls this function, so that must live as long as the child.

    Parameters
    ----------
    command, options
        As for `subprocess.Popen`.
    environment
        The whole environment of the child, which gets two more variables.
    descriptors
        Descriptors that the child inherits beside that of the lock.
    lock
        Descriptor of the lock; None: that of this process's own family, if there is one.

    Returns
    -------
    subprocess.Popen
        The child.
    """
    held = (lock,) if lock is not None else lock_descriptor()
    told = {PARENT: str(os.getpid()), LOCK: str(held[0]) if held else ""}
    return subprocess.Popen(
        command,
        env={**environment, **told},
        pass_fds=[*descriptors, *held],
        **options,
    )


def end_with_parent(parent: int | None = None) -> None:
    """Let the system kill this process when its parent ends.

    Parameters
    ----------
    parent
        Id of the parent, in a fork; None: the one that `start_child` told. A program that somebody
        started by hand has been told none, and lives as long as it likes.

    Raises
    ------
    OSError
        If the system refuses.
    """
    if parent is None:
        if PARENT not in os.environ:
            return
        parent = int(os.environ[PARENT])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process cannot be bound to its parent's life")
    if os.getppid() != parent:  # it ended before the system was asked
        os._exit(1)


def lock_descriptor() -> tuple[int, ...]:
    """Descriptor of the lock that this process has inherited; empty if it has none."""
    with suppress(KeyError, ValueError, OSError):
        number = int(os.environ[LOCK])
        os.fstat(number)
        return (number,)
    return ()
