"""A lock for a GPU: several sites or experiments on one machine use it one after another."""

import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from fedrad.client.problems import SiteProblem

SHARED = Path("/dev/shm")
"""A folder that all services of a machine share, even if they have a private /tmp."""


@contextmanager
def gpu_lock(device: torch.device, log: logging.Logger, folder: Path = SHARED) -> Iterator[None]:
    """Hold a GPU for this process; wait while another job of this machine uses it.

    The lock of a process that is killed is released. On the CPU there is no lock.

    Parameters
    ----------
    device
        The device to hold.
    log
        Gets a line if the process must wait.
    folder
        Folder of the lock's file.

    Raises
    ------
    SiteProblem
        "internal", if another user of the machine has put something else in the place of the file.
    """
    if device.type != "cuda":
        yield
        return
    place = folder if folder.is_dir() else Path("/tmp")
    descriptor = _open_shared(place / f"fedrad-gpu-{device.index or 0}.lock")
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another job uses the GPU; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_shared(file: Path) -> int:
    """Open a lock's file, empty and readable by all users of the machine, whoever made it."""
    with suppress(FileExistsError):
        made = os.open(file, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.fchmod(made, 0o444)  # the umask of this process is for files of its own
        return made
    try:
        # O_NONBLOCK: a pipe would be waited for until somebody writes into it
        found = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise SiteProblem("internal", _no_lock(file, error.strerror)) from error
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise SiteProblem("internal", _no_lock(file, "it is no file"))
    return found


def _no_lock(file: Path, why: str | None) -> str:
    return (
        f"{file}: cannot be used as the lock of the GPU ({why}). A user of this machine has put it "
        f"there (ls -l {file}); the administrator can remove it"
    )
