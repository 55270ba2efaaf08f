"""Processes that end with the process that started them."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
"""Option of Linux's `prctl`: the signal that a process gets when its parent ends."""


def end_with_parent(parent: int) -> None:
    """Let the system kill this process as soon as its parent has ended, however that ended.

    The new process calls this first. The system watches the thread that started the process: it
    must be one that lives as long as the parent, such as the main thread. Children do not inherit
    the setting.

    Parameters
    ----------
    parent
        Id of the process that started this one. If it has ended meanwhile, this process ends here.

    Raises
    ------
    OSError
        If the system refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the system does not end processes with their parent")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
