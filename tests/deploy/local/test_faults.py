"""Faults of sites and coordinators in a federation of real processes. Minutes: `-m slow`."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hospital import EXPERIMENT, write_site
from support.processes import same_result, wait_until

from fedrad.client.node.service import NODE_COMMAND
from fedrad.deploy.local.simulation import prepare, simulate
from fedrad.flower.process_tree import processes_of
from fedrad.flower.processes import FlowerProcesses, own_flower_processes
from fedrad.server.results.summary import Summary, read_summary
from fedrad.server.rounds.checkpoint import Checkpoint

pytestmark = pytest.mark.slow

TEXT = (
    EXPERIMENT.replace("rounds = 2", 'rounds = 4\nquorum = 2\nencoding = "int8"')
    .replace("batch_size = 8", "batch_size = 8\nlocal_epochs = 30")
    .replace("minimum_units = 3", "minimum_units = 3\nlocal_baseline = false")
)
NAMES = ("a", "b", "c")


class HospitalProcesses:
    """A SuperLink with a database, and three sites whose processes can be ended."""

    def __init__(self, flower: FlowerProcesses, folders: dict[str, Path], state: Path) -> None:
        self.flower, self.folders, self.state = flower, folders, state
        self.database = ("--database", str(state / "superlink.db"))
        self.superlink = flower.start_superlink(*self.database)
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        for name in folders:
            self.start(name)

    def start(self, name: str) -> None:
        node = {"folder": str(self.folders[name]), "name": name, "state": str(self.state / name)}
        self.nodes[name] = self.flower.start_supernode(name, node, NODE_COMMAND)

    def kill(self, name: str) -> None:
        """SIGKILL to all processes of a site."""
        home = f"FLWR_HOME={self.flower.folder / name}".encode()
        for pid in processes_of(self.flower.folder):
            if home in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
        self.nodes[name].wait(timeout=30)

    def restart_superlink(self) -> None:
        """Kill the SuperLink, and start another at the same address."""
        self.superlink.kill()
        self.superlink.wait()
        self.superlink = self.flower.start_superlink(*self.database)

    def server_app(self) -> int:
        """The ServerApp's process id: a fork of the executor."""
        for pid in processes_of(self.flower.folder):
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            if all(
                b"fedrad.flower.server_executor" in Path(f"/proc/{number}/cmdline").read_bytes()
                for number in (pid, parent)
            ):
                return pid
        raise AssertionError("no ServerApp")

    def run(self, out: Path, *, text: str = TEXT, resume: bool = False) -> "Run":
        return Run(self.flower, out, text, resume=resume)


class Run(threading.Thread):
    """An experiment in the background, and its log so far."""

    def __init__(self, flower: FlowerProcesses, out: Path, text: str, *, resume: bool) -> None:
        super().__init__(daemon=True)
        self.flower, self.out, self.lines, self.error = flower, out, [], None
        self.config = {"experiment": text, "out": str(out), "resume": resume}
        self.start()

    def run(self) -> None:
        try:
            for line in self.flower.run(self.config):
                self.lines.append(line)
        except Exception as error:
            self.error = error

    def wait_for(self, words: str, seconds: float = 240) -> None:
        def logged() -> bool:
            return any(words in line for line in self.lines)

        wait_until(lambda: logged() or not self.is_alive(), seconds)
        assert logged(), "\n".join(self.lines)

    def ended(self, seconds: float = 400) -> None:
        self.join(seconds)
        assert not self.is_alive(), "\n".join(self.lines)

    def end(self) -> Summary:
        self.ended()
        return read_summary(self.out)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sites")
    return {name: write_site(root / name, seed=seed) for seed, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def undisturbed(folders, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    file = out.parent / "experiment.toml"
    file.write_text(TEXT)
    simulate(prepare(file, folders, out))
    return out


@pytest.fixture
def hospitals(folders, tmp_path) -> Iterator[HospitalProcesses]:
    with own_flower_processes({"OMP_NUM_THREADS": "1"}) as flower:
        yield HospitalProcesses(flower, folders, tmp_path)


def test_a_site_killed_while_training_is_named_and_returns(hospitals, tmp_path):
    run = hospitals.run(tmp_path / "out")
    run.wait_for("Round 2 of 4")
    hospitals.kill("c")
    run.wait_for("Round 3 of 4")
    time.sleep(62)  # Flower refuses the node again until its heartbeat has expired
    hospitals.start("c")
    summary = run.end()
    assert summary.status == "completed"
    second, last = summary.rounds[1], summary.rounds[3]
    assert second.sites["c"].status == "lost"
    assert {second.sites[s].status for s in "ab"} == {"ok"}
    assert {c.site for c in summary.cells if c.model == "global" and c.auroc is not None} >= {
        "a",
        "b",
        *(("c",) if last.sites["c"].status == "ok" else ()),
    }


def test_two_sites_lost_so_that_the_quorum_fails_come_back(hospitals, tmp_path):
    run = hospitals.run(tmp_path / "out")
    run.wait_for("Round 2 of 4")
    hospitals.kill("b")
    hospitals.kill("c")
    run.wait_for("Waiting: round 2: 1 sound updates, the quorum is 2")
    for name in "bc":
        hospitals.start(name)
    summary = run.end()
    assert summary.status == "completed"
    assert sum(r.status == "ok" for r in summary.rounds[1].sites.values()) >= 2


def test_a_killed_superlink_and_resume_end_in_the_same_figures(hospitals, undisturbed, tmp_path):
    run = hospitals.run(tmp_path / "out")
    run.wait_for("Round 3 of 4")
    hospitals.restart_superlink()
    run.ended()
    wait_until(lambda: not Checkpoint(tmp_path / "out" / "checkpoint").is_running(), 60)
    summary = hospitals.run(tmp_path / "out", resume=True).end()
    assert summary.status == "completed"
    assert same_result(undisturbed, tmp_path / "out")


def test_a_killed_server_app_and_resume_end_in_the_same_figures(hospitals, undisturbed, tmp_path):
    run = hospitals.run(tmp_path / "out")
    run.wait_for("Round 3 of 4")
    os.kill(hospitals.server_app(), signal.SIGKILL)
    run.ended()
    assert len(Checkpoint(tmp_path / "out" / "checkpoint").load().rounds) == 2
    summary = hospitals.run(tmp_path / "out", resume=True).end()
    assert summary.status == "completed"
    assert same_result(undisturbed, tmp_path / "out")
    following = TEXT.replace('name = "test"', 'name = "next"')  # each site answers one once
    again = hospitals.run(tmp_path / "next", text=following).end()
    assert again.status == "completed", "the same sites take part in the next experiment"
