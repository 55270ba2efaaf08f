"""Tasks in forks: side by side, and ended with the process that took them."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from support.processes import wait_until

LOOP = """
    import os, sys, time
    from pathlib import Path
    from fedrad.flower.local_socket import use_socket
    from fedrad.flower.task_loop import TaskLoop
    from fedrad.flower.internals import TaskType

    folder = Path(sys.argv[1])
    use_socket(folder / "none.sock")

    def work(token):
        (folder / token).write_text(str(os.getpid()))
        time.sleep(60)

    loop = TaskLoop(TaskType.SERVER_APP, work)
    tokens = iter(["one", "two"])
    loop._acquire = lambda: next(tokens, "")
    loop.run()
"""


def at_work(folder: Path) -> dict[str, int]:
    files = [folder / name for name in ("one", "two")]
    return {f.name: int(f.read_text()) for f in files if f.is_file() and f.read_text()}


def started(folder: Path) -> "subprocess.Popen[bytes]":
    loop = subprocess.Popen([sys.executable, "-c", textwrap.dedent(LOOP), str(folder)])
    wait_until(lambda: len(at_work(folder)) == 2 or loop.poll() is not None, 120)
    return loop


def test_two_tasks_are_at_work_at_once_and_end_with_the_loop_when_it_is_asked_to(tmp_path):
    loop = started(tmp_path)
    children = at_work(tmp_path).values()
    assert len(set(children)) == 2
    loop.send_signal(signal.SIGTERM)
    assert loop.wait(timeout=30) == 0
    assert not any(map(exists, children))


def test_tasks_end_with_a_loop_that_was_killed(tmp_path):
    loop = started(tmp_path)
    loop.kill()
    loop.wait()
    wait_until(lambda: not any(map(exists, at_work(tmp_path).values())), 10)


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
