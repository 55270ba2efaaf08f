"""If a worker crashes, hangs or uses up memory, one item is lost and the others are processed."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.odd_workers import work
from support.paths import TESTS

from fedrad.client.images.worker_processes import Failure, run_isolated


@pytest.fixture(autouse=True)
def workers_find_this_module(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("segfault", "the decoder crashed (SIGSEGV)"),
        ("killed", "the decoder was killed, perhaps by the system for lack of memory"),
        ("hang in Python", "not decoded within 1 s"),
        ("hang in C", "not decoded within 1 s"),
        ("ignore the alarm", "not decoded within 1 s"),
        ("memory", "decoding needs more than 256 MiB of memory"),
        ("raise", "unexpected KeyError while reading"),
    ],
)
def test_one_item_is_set_aside_with_its_reason_and_the_rest_goes_on(task, reason):
    items = [("square", n) for n in range(6)]
    items[2] = (task, 0)
    seconds = 1 if "1 s" in reason else 60  # a busy machine takes its time to fill 256 MiB
    results = dict(run_isolated(work, items, workers=2, seconds=seconds, memory_mib=256))
    assert results == {n: n * n for n in range(6) if n != 2} | {2: Failure(reason)}


def test_an_iterator_left_early_leaves_no_process():
    results = run_isolated(work, [("pid", 0)] * 50, workers=2)
    seen = {next(results)[1] for _ in range(5)}
    results.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in seen)


def test_time_taken_by_who_iterates_makes_no_worker_late(monkeypatch):
    monkeypatch.setattr("fedrad.client.images.worker_processes.GRACE_SECONDS", 0)
    results = {}
    for item, result in run_isolated(work, [("square", n) for n in range(4)], workers=2, seconds=2):
        results[item] = result
        time.sleep(2.2)
    assert results == {n: n * n for n in range(4)}


def test_works_from_a_thread():
    results = {}
    thread = threading.Thread(target=lambda: results.update(run_isolated(work, [("square", 3)])))
    thread.start()
    thread.join()
    assert results == {0: 9}


def test_no_worker_outlives_a_killed_parent():
    code = (
        "from support.odd_workers import work; "
        "from fedrad.client.images.worker_processes import run_isolated; "
        "r = run_isolated(work, [('pid', 0)] + [('hang in C', 0)] * 3, workers=1, seconds=2); "
        "print(next(r)[1], flush=True); next(r)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 15
    while Path(f"/proc/{worker}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    status = Path(f"/proc/{worker}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()  # who reaps is init's matter
