"""A node that was stopped is stopped: whatever ends the service ends all that speaks for the site.

The service is fedrad's; a small program stands in for the node, so that a visit takes as long as
the test likes. `test_a_real_node...` has the real one.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hospital import EXPERIMENT, write_site
from support.joined import join
from support.processes import wait_until

from fedrad.client.node import stopping
from fedrad.client.node.family import SERVICE, check_not_stopped, speakers
from fedrad.client.node.service import NODE_COMMAND
from fedrad.client.policy.ledger import Ledger
from fedrad.client.policy.membership import RUNNING
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import JOINED, Site, open_site
from fedrad.flower import log_lines
from fedrad.flower.processes import own_flower_processes
from fedrad.system.files import is_locked

SERVES = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
from fedrad.client.node import service
from fedrad.client.policy.membership import read_membership
from fedrad.client.settings import open_site
service.NODE_COMMAND = (sys.executable, sys.argv[2])
site = open_site(Path(sys.argv[1]), state=Path(sys.argv[1]) / "state")
service.start(site, read_membership(site.state))
"""
NODE = """
from fedrad.system.process_family import end_with_parent, start_child
end_with_parent()
import os, signal, sys, time
from pathlib import Path
from fedrad.client.node.family import check_not_stopped
state = Path(os.environ["FLWR_HOME"]).parent
WORKER = ("from fedrad.system.process_family import end_with_parent; end_with_parent(); "
          "import time; time.sleep(600)")
parent, visits = os.getpid(), []

def end(number, frame):  # as the executor: SIGTERM finishes the visit first
    if number == signal.SIGINT:
        os.kill(visits[0], signal.SIGKILL)

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, end)
visit = os.fork()
if not visit:
    end_with_parent(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    start_child([sys.executable, "-c", WORKER], environment=dict(os.environ))
    while not (state / "trained").exists():
        time.sleep(0.05)
    check_not_stopped({"joined": "yes", "state": str(state)})
    (state / "answered").touch()
    os._exit(0)
visits.append(visit)
os.waitpid(visit, 0)
if not (state / "answered").exists():
    sys.exit(1)
time.sleep(600 if "--stays" in sys.argv else 0)
"""
FAMILY = 4
"""Service, node, visit, and a worker of the visit."""


class Hospital:
    def __init__(self, site: Site) -> None:
        self.site = site
        (site.folder / "serves.py").write_text(SERVES)
        (site.folder / "node.py").write_text(NODE)
        self.services: list[subprocess.Popen[str]] = []

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "serves.py", str(self.site.folder), "node.py"]
        service = subprocess.Popen(
            command,
            cwd=self.site.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.services.append(service)
        return service

    def at_work(self) -> "subprocess.Popen[str]":
        """Start the site; a visit is computed."""
        service = self.start()
        wait_until(lambda: service.poll() is not None or len(self.pids()) == FAMILY, 120)
        assert service.poll() is None, service.communicate()[0]
        return service

    def pids(self) -> set[int]:
        return {speaker.pid for speaker in speakers(self.site.state)}

    def is_silent(self) -> bool:
        return not self.pids() and not is_locked(self.site.state / RUNNING)

    def answers(self) -> bool:
        """Let the visit come to its end: whether it answers."""
        (self.site.state / "trained").touch()
        time.sleep(0.5)
        return (self.site.state / "answered").exists()

    def visit(self) -> int:
        """The process of the visit: the one whose parent is the node."""
        (service,) = (s.pid for s in self.services if s.poll() is None)
        (node,) = (pid for pid in self.pids() if parent_of(pid) == service)
        return next(pid for pid in self.pids() if parent_of(pid) == node)

    def end(self) -> None:
        for service in self.services:
            service.kill()
            service.wait()
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "site.toml").write_text('name = "a"\n')
    hospital = Hospital(join(open_site(folder, state=folder / "state")))
    yield hospital
    hospital.end()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=["kill -9", "terminal"])
def test_whatever_ends_the_service_ends_the_visit_within_seconds(hospital, number):
    service = hospital.at_work()
    os.kill(service.pid, number)
    wait_until(hospital.is_silent, 5)
    assert not hospital.answers()


def test_a_second_start_says_what_runs(hospital):
    service = hospital.at_work()
    output = hospital.start().communicate(timeout=60)[0]
    assert "runs already" in output
    for pid in hospital.pids():
        assert f"{pid} since 20" in output
    assert "serves.py" in output
    assert "fedrad-site stop" in output
    assert service.poll() is None


def test_a_stop_lets_the_round_in_hand_be_finished_and_sent(hospital):
    hospital.at_work()
    stops = subprocess.Popen(
        [sys.executable, "-c", STOPS, str(hospital.site.folder)], start_new_session=True
    )
    time.sleep(1)
    assert hospital.answers()
    assert stops.wait(timeout=60) == 0
    assert hospital.is_silent()
    hospital.services[0].wait(timeout=5)


def test_a_stop_that_comes_while_the_node_is_being_started_ends_it(hospital):
    """The signal comes when the service is there, and its new process is not yet known to it."""
    started = "service.NODE_COMMAND ="
    program = SERVES.replace(started, f"{SIGNALLED}\n{started}")
    (hospital.site.folder / "serves.py").write_text(program)
    (hospital.site.folder / "node.py").write_text("import time; time.sleep(600)")  # no visit
    service = hospital.start()
    service.wait(timeout=30)
    assert hospital.is_silent()


SIGNALLED = """
import os, signal
starts = service.start_child
def start_child(*arguments, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    return starts(*arguments, **options)
service.start_child = start_child
"""


@pytest.mark.parametrize("removed", [[".node.pid.lock"], [RUNNING], [".node.pid.lock", RUNNING]])
def test_a_stop_finds_a_service_whose_files_were_removed(hospital, removed):
    service = hospital.at_work()
    for name in removed:
        (hospital.site.state / name).unlink()
    stopping.stop(hospital.site, now=True)
    service.wait(timeout=2)
    assert hospital.is_silent()
    assert not hospital.answers()


def test_a_second_start_finds_a_service_whose_lock_was_removed(hospital):
    service = hospital.at_work()
    (hospital.site.state / ".node.pid.lock").unlink()
    assert f"{service.pid} since 20" in hospital.start().communicate(timeout=60)[0]


def test_a_service_whose_file_was_removed_starts_no_further_node(hospital):
    service = hospital.at_work()
    (hospital.site.state / RUNNING).unlink()
    os.kill(parent_of(hospital.visit()), signal.SIGKILL)
    service.wait(timeout=30)


def test_a_service_that_was_suspended_is_stopped_without_force(hospital):
    """With Ctrl-Z, for example: it gets no signal but SIGCONT then."""
    service = hospital.at_work()
    os.kill(service.pid, signal.SIGSTOP)
    stops = subprocess.Popen(
        [sys.executable, "-c", STOPS, str(hospital.site.folder)], start_new_session=True
    )
    time.sleep(2)
    assert hospital.answers()
    try:
        assert stops.wait(timeout=30) == 0
    finally:
        stops.kill()
    assert hospital.is_silent()


STOPS = """
import sys
from pathlib import Path
from fedrad.client.node.stopping import stop
from fedrad.client.settings import open_site
stop(open_site(Path(sys.argv[1]), state=Path(sys.argv[1]) / "state"), now=False)
"""


def test_a_visit_that_hangs_is_killed_if_nobody_wants_to_wait(hospital, monkeypatch):
    monkeypatch.setattr(stopping, "AT_ONCE_SECONDS", 2.0)
    service = hospital.at_work()
    for pid in hospital.pids():
        os.kill(pid, signal.SIGSTOP)
    stopping.stop(hospital.site, now=True)
    assert hospital.is_silent()
    assert not hospital.answers()
    service.wait(timeout=5)


def test_what_is_left_of_a_service_that_is_gone_is_found_and_ended(hospital, monkeypatch):
    """As an earlier version left it: its node did not end with it, and held no lock."""
    monkeypatch.setattr(stopping, "AT_ONCE_SECONDS", 1.0)
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={**os.environ, "FLWR_HOME": str(hospital.site.state / "flower")},
        start_new_session=True,
    )
    wait_until(lambda: hospital.pids() == {left.pid}, 5)
    output = hospital.start().communicate(timeout=60)[0]
    assert f"runs already: {left.pid} since" in output
    stopping.stop(hospital.site, now=False)
    assert left.poll() is not None or left.wait(timeout=5) is not None
    with pytest.raises(SiteProblem, match="no node of this site runs here"):
        stopping.stop(hospital.site, now=False)


def test_a_number_that_another_process_has_now_is_left_alone(hospital):
    """`node.pid` of a service that was killed, whose number the system has given away since."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (hospital.site.state / RUNNING).write_text(str(other.pid))
    with pytest.raises(SiteProblem, match="no node of this site runs here"):
        stopping.stop(hospital.site, now=True)
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_visit_of_a_stopped_node_does_not_answer(hospital, monkeypatch):
    """Whatever process computes it, and however long it outlives its service."""
    config = {JOINED: "yes", "state": str(hospital.site.state)}
    running = hospital.site.state / RUNNING
    monkeypatch.setenv(SERVICE, str(os.getpid()))
    running.write_text(str(os.getpid()))
    check_not_stopped(config)
    running.write_text("1")
    with pytest.raises(SiteProblem, match="was stopped"):
        check_not_stopped(config)
    running.unlink()
    with pytest.raises(SiteProblem, match="was stopped"):
        check_not_stopped(config)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setenv(SERVICE, str(ended.pid))
    running.write_text(str(ended.pid))
    with pytest.raises(SiteProblem, match="was stopped"):
        check_not_stopped(config)
    check_not_stopped({"state": str(hospital.site.state)})  # of a simulation


LOCKS = """
import os, subprocess, sys, time
from pathlib import Path
from fedrad.system.files import locked
from fedrad.system.process_family import start_child
with locked(Path(sys.argv[1])) as lock:
    start_child(sys.argv[2:], environment=dict(os.environ), lock=lock,
                stdout=sys.stdout, stderr=sys.stderr).wait()
"""


@pytest.mark.slow
def test_a_real_node_ends_with_its_service_in_the_middle_of_a_round(tmp_path):
    """SuperNode, executor, visit and decoding workers; no TCP port; nothing more in the ledger."""
    text = EXPERIMENT.replace("batch_size = 8", "batch_size = 4\nlocal_epochs = 100")
    running = tmp_path / "state-a" / RUNNING
    running.parent.mkdir(mode=0o700)
    with own_flower_processes({"OMP_NUM_THREADS": "1"}) as flower:
        flower.start_superlink()
        for seed, name in enumerate("ab"):
            folder = write_site(tmp_path / name, seed=seed)
            state = str(tmp_path / f"state-{name}")
            config = {"folder": str(folder), "name": name, "state": state}
            service = [sys.executable, "-c", LOCKS, str(running)] if name == "a" else []
            node = flower.start_supernode(name, config, [*service, *NODE_COMMAND])
            if name == "a":
                killed = node
        log = flower.run({"experiment": text, "out": str(tmp_path / "out"), "wait-seconds": 60.0})
        assert next(log)

        def received() -> int:
            lines = flower.last_lines("a", 10_000).splitlines()
            return sum(map(log_lines.MESSAGE_RECEIVED.matches, lines))

        wait_until(lambda: received() == 2, 300)
        wait_until(lambda: len(speakers(running.parent)) >= FAMILY, 60)
        pids = {speaker.pid for speaker in speakers(running.parent)}
        assert not tcp_listeners(pids), "the node's own processes speak over a socket"
        entries = len(Ledger(running.parent / "ledger.jsonl").entries())
        killed.kill()
        wait_until(lambda: not speakers(running.parent) and not is_locked(running), 5)
        assert not [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]
        assert len(Ledger(running.parent / "ledger.jsonl").entries()) == entries


def tcp_listeners(pids: set[int]) -> set[str]:
    """Sockets of processes that listen at a TCP port."""
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                listening.add(f"socket:[{fields[9]}]")
    held = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            held.add(os.readlink(descriptor))
    return listening & held
