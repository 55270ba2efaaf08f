"""One job at a time on a GPU: several sites, or several experiments, may share a machine."""

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

SHARED = Path("/dev/shm")
"""Seen by all services of a machine, also by those with a /tmp of their own."""


@contextmanager
def gpu_lock(device: torch.device, log: logging.Logger, folder: Path = SHARED) -> Iterator[None]:
    """Wait until no other job of this machine uses the GPU, and keep it meanwhile. A job that is
    killed gives its turn away. On the CPU there is no waiting."""
    if device.type != "cuda":
        yield
        return
    place = folder if folder.is_dir() else Path(tempfile.gettempdir())
    file = place / f"fedrad-gpu-{device.index or 0}.lock"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another job uses the GPU; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
