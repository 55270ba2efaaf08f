"""Jobs of one machine use its GPU one after another."""

import logging
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from fedrad.client.node.gpu_lock import gpu_lock
from fedrad.client.problems import SiteProblem

CUDA = torch.device("cuda", 0)
LOG = logging.getLogger("test")


def job(folder: Path, seconds: float) -> int:
    """A process that writes when it held the lock."""
    if child := os.fork():
        return child
    with gpu_lock(CUDA, LOG, folder):
        (folder / f"{os.getpid()}.began").write_text(str(time.monotonic()))
        time.sleep(seconds)
        (folder / f"{os.getpid()}.ended").write_text(str(time.monotonic()))
    os._exit(0)


def at(folder: Path, child: int, what: str) -> float:
    return float((folder / f"{child}.{what}").read_text())


def test_two_jobs_do_not_use_a_gpu_at_the_same_time(tmp_path):
    children = [job(tmp_path, 0.3) for _ in range(3)]
    for child in children:
        os.waitpid(child, 0)
    spans = sorted((at(tmp_path, c, "began"), at(tmp_path, c, "ended")) for c in children)
    assert all(one[1] <= after[0] for one, after in pairwise(spans))


def test_a_job_that_is_killed_gives_its_turn_away(tmp_path):
    child = job(tmp_path, 60)
    while not (tmp_path / f"{child}.began").exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with gpu_lock(CUDA, LOG, tmp_path):
        pass


def test_no_process_waits_for_a_cpu(tmp_path):
    with gpu_lock(CUDA, LOG, tmp_path), gpu_lock(torch.device("cpu"), LOG, tmp_path):
        pass


@pytest.mark.parametrize("what", ["pipe", "link"])
def test_what_another_user_put_in_the_place_of_the_lock_is_named_and_not_waited_for(tmp_path, what):
    file = tmp_path / "fedrad-gpu-0.lock"
    os.mkfifo(file) if what == "pipe" else file.symlink_to("/etc/passwd")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(20)  # a pipe is opened when somebody writes into it, which nobody does
    try:
        with (
            pytest.raises(SiteProblem, match=r"lock of the GPU.*ls -l"),
            gpu_lock(CUDA, LOG, tmp_path),
        ):
            pass
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
