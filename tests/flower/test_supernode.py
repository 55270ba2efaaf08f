"""The SuperNode ends gracefully or at once, with Flower's own processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hospital import EXPERIMENT, write_site
from support.processes import wait_until

from fedrad.client.node.service import NODE_COMMAND
from fedrad.flower import log_lines
from fedrad.flower.processes import FlowerProcesses, own_flower_processes

SUPERNODE = (sys.executable, "-m", "fedrad.client.node.supernode")
"""Without an executor: a message that comes stays at work."""


@pytest.fixture
def flower() -> Iterator[FlowerProcesses]:
    with own_flower_processes({"OMP_NUM_THREADS": "1"}) as flower:
        flower.start_superlink()
        yield flower


def lines(flower: FlowerProcesses, name: str, kind: log_lines.LogLine) -> int:
    """How often a node has written a line of a kind."""
    return sum(map(kind.matches, flower.last_lines(name, 10_000).splitlines()))


def start_run(flower: FlowerProcesses, experiment: str, out: Path) -> None:
    """Start an experiment, and leave it to itself."""
    log = flower.run({"experiment": experiment, "out": str(out), "wait-seconds": 60.0})
    assert next(log)


def test_a_node_with_nothing_at_work_ends_at_once(flower):
    node = flower.start_supernode("a", {}, SUPERNODE)
    wait_until(lambda: lines(flower, "a", log_lines.CONNECTED), 60)
    node.send_signal(signal.SIGTERM)
    node.wait(timeout=20)


@pytest.mark.slow
def test_a_message_at_work_is_waited_for_and_a_second_signal_ends_the_node_whatever_is(
    flower, tmp_path
):
    nodes = {
        (number, name): flower.start_supernode(name, {"name": name}, SUPERNODE)
        for number, name in ((signal.SIGTERM, "a"), (signal.SIGINT, "b"))
    }
    start_run(flower, EXPERIMENT, tmp_path / "out")
    for (number, name), node in nodes.items():
        wait_until(lambda name=name: lines(flower, name, log_lines.MESSAGE_RECEIVED), 120)
        node.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            node.wait(timeout=5)
        node.send_signal(number)
        node.wait(timeout=20)
        assert not lines(flower, name, log_lines.ANSWER_SENT)


@pytest.mark.slow
def test_a_node_ends_when_the_message_at_work_is_answered_and_takes_no_other(flower, tmp_path):
    """The second message is a round: with 100 local epochs it takes a while."""
    text = EXPERIMENT.replace("batch_size = 8", "batch_size = 4\nlocal_epochs = 100")
    nodes = {}
    for seed, name in enumerate("ab"):
        folder = write_site(tmp_path / name, seed=seed)
        config = {"folder": str(folder), "name": name, "state": str(tmp_path / f"state-{name}")}
        nodes[name] = flower.start_supernode(name, config, NODE_COMMAND)
    start_run(flower, text, tmp_path / "out")
    wait_until(lambda: lines(flower, "a", log_lines.MESSAGE_RECEIVED) == 2, 200)
    nodes["a"].send_signal(signal.SIGTERM)
    nodes["a"].wait(timeout=200)
    assert lines(flower, "a", log_lines.MESSAGE_RECEIVED) == 2
    assert lines(flower, "a", log_lines.ANSWER_SENT) == 2


GIVES_UP = """
import threading, time
from fedrad.flower import supernode
def give_up():
    threading.Thread(target=time.sleep, args=(60,)).start()
    END
supernode.flower_supernode = give_up
supernode.main(None)
"""


@pytest.mark.parametrize("end", ["raise ConnectionError('another certificate')", "return"])
def test_a_node_that_gives_up_ends_so_that_it_is_started_again(end, tmp_path):
    """After a certificate that is not the coordinator's, Flower's main thread ends alone: on its
    first connection with an exception, later with a line of its log."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    ended = subprocess.run(
        [sys.executable, "-c", GIVES_UP.replace("END", end)],
        capture_output=True,
        env={**os.environ, "FLWR_HOME": str(home)},
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 1
    assert ("ConnectionError" in ended.stderr) == end.startswith("raise")
