"""Processes that end with the one that started them."""

import os
import subprocess
import sys
from pathlib import Path

from support.processes import wait_until

PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())],
                         start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""
CHILD = """
import sys, time
from fedrad.system.process_family import end_with_parent
end_with_parent(int(sys.argv[1]))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_child_ends_with_a_parent_that_was_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(child), 10)


def test_a_child_whose_parent_ended_before_does_not_begin():
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, "1"], capture_output=True, timeout=30, check=False
    )
    assert ended.returncode != 0
    assert ended.stdout == b""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
