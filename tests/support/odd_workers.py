"""Decoders that crash, hang or use up memory; decoding workers import them by name."""

import ctypes
import os
import shutil
import signal
import time
from pathlib import Path

from fedrad.client.images.single_file import read_file


def work(task: str, value: int = 0) -> int:
    """What a decoder may do to its worker."""
    if task == "segfault":
        ctypes.string_at(0)
    if task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "hang in Python":
        while True:
            pass
    if task == "hang in C":
        time.sleep(1000)
    if task == "ignore the alarm":
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        time.sleep(1000)
    if task == "memory":
        blocks = []
        while True:
            blocks.append(bytearray(2**24))
    if task == "raise":
        raise KeyError("secret")
    if task == "pid":
        return os.getpid()
    return value * value


def odd(path, settings, pspnet=None):
    """A decoder that crashes, or before which the file changes or vanishes, as `PATH.odd` asks."""
    note = Path(f"{path}.odd")
    match note.read_text() if note.exists() else "":
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "vanish":
            Path(path).unlink()
        case "change":
            note.unlink()
            shutil.copy(f"{path}.new", path)
    return read_file(path, settings, pspnet)
