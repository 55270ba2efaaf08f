"""The same apps, the same figures: in one process, over a real SuperLink, in Flower's simulation;
and nothing of Flower is left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.cli.build import build_fab_from_disk
from support.hospital import EXPERIMENT, write_site
from support.processes import same_result, wait_until

from fedrad.client.app import app as client_app
from fedrad.client.node.service import NODE_COMMAND
from fedrad.deploy.local.flower_engine import run_flower
from fedrad.deploy.local.simulation import Simulation, prepare, simulate
from fedrad.exchange.messages import READY, ReadyRequest, to_record
from fedrad.flower.bundles import BUNDLE
from fedrad.flower.grid import InProcessGrid
from fedrad.flower.process_tree import processes_of
from fedrad.flower.processes import FlowerProcesses, flower_environment, own_flower_processes
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.server.results.summary import Summary, read_summary


def text(rounds: int) -> str:
    """The experiment of all tests here, without the local baseline, for time."""
    return EXPERIMENT.replace("rounds = 2", f"rounds = {rounds}") + "local_baseline = false\n"


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sites")
    return {name: write_site(root / name, seed=seed) for seed, name in enumerate("ab")}


def prepared(sites: dict[str, Path], out: Path, rounds: int = 2) -> Simulation:
    out.mkdir(parents=True, mode=0o700)
    file = out / "given.toml"
    file.write_text(text(rounds))
    return prepare(file, sites, out)


@pytest.fixture(scope="module")
def in_process(sites: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("in-process") / "out"
    simulate(prepared(sites, out))
    return out


def test_processes_that_speak_to_this_machine_only_get_no_proxy_of_the_person(monkeypatch):
    for name in ("all_proxy", "ALL_PROXY", "grpc_proxy", "no_grpc_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://proxy.hospital.de:8080")
    monkeypatch.setenv("no_proxy", "*")
    environment = flower_environment({"FURTHER": "yes"})
    assert environment["FURTHER"] == "yes"
    assert "proxy.hospital.de" not in " ".join(environment.values())
    assert environment["no_proxy"] == environment["NO_PROXY"] == "127.0.0.1,localhost,::1"


# The bundle


def test_the_bundle_holds_no_code(tmp_path: Path) -> None:
    shutil.copy(BUNDLE, tmp_path)
    assert [file.name for file in BUNDLE.parent.iterdir()] == ["pyproject.toml"]
    bundle = build_fab_from_disk(tmp_path)
    held = {name for name in zipfile.ZipFile(BytesIO(bundle)).namelist() if ".info" not in name}
    assert held == {"pyproject.toml"}
    assert len(bundle) < 1500


# A real SuperLink with two real SuperNodes


@pytest.fixture(scope="module")
def federation(
    sites: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlowerProcesses]:
    with own_flower_processes({"OMP_NUM_THREADS": "1"}) as flower:
        flower.start_superlink()
        for name, folder in sites.items():
            state = tmp_path_factory.mktemp("state") / name
            node = {"folder": str(folder), "name": name, "state": str(state)}
            flower.start_supernode(name, node, NODE_COMMAND)
        yield flower
        folder = flower.folder
    assert processes_of(folder) == set()
    assert not folder.exists()


def run(flower: FlowerProcesses, experiment: str, out: Path) -> tuple[list[str], Summary]:
    lines = list(flower.run({"experiment": experiment, "out": str(out), "wait-seconds": 20.0}))
    return lines, read_summary(out)


@pytest.mark.slow
def test_real_sites_give_the_figures_of_the_simulation(
    federation: FlowerProcesses, in_process: Path, tmp_path: Path
) -> None:
    lines, summary = run(federation, text(2), tmp_path / "out")
    assert summary.status == "completed", "\n".join(lines)
    assert same_result(in_process, tmp_path / "out")
    assert "fedrad INFO Round 1 of 2, stage all" in lines


def test_a_site_that_lost_its_table_sends_the_coordinator_one_sentence_and_no_path(
    federation: FlowerProcesses, sites: dict[str, Path], tmp_path: Path
) -> None:
    table = sites["b"] / "cohort.csv"
    table.rename(table.with_suffix(".away"))
    try:
        lines, summary = run(federation, text(1), tmp_path / "out")
    finally:
        table.with_suffix(".away").rename(table)
    assert summary.status == "failed"
    assert "no quorum" in (summary.why or "")
    assert len(summary.absent) == 1
    at_the_coordinator = "\n".join(lines) + federation.last_lines("superlink", 100_000)
    for name in (str(sites["b"]), "cohort.csv", "SiteProblem", "CANARY"):
        assert name not in at_the_coordinator
        assert name not in (tmp_path / "out" / "summary.json").read_text()


def test_what_goes_wrong_with_a_sites_own_files_leaves_as_one_word(
    sites: dict[str, Path], tmp_path: Path
) -> None:
    """Flower sends the text of an exception to the server, so none may get out of the app."""
    (tmp_path / "state" / "ledger.jsonl").mkdir(parents=True)
    (tmp_path / "file").touch()
    here = {"folder": str(sites["a"]), "name": "a"}
    for node_config in (
        {},
        {"folder": str(tmp_path / "gone"), "name": "a"},
        {**here, "state": str(tmp_path / "state")},
        {**here, "state": str(tmp_path / "file")},
    ):
        grid = InProcessGrid(client_app, [node_config], {"experiment": text(1)})
        (reply,) = grid.send_and_receive(
            [Message(to_record(ReadyRequest(fedrad="0.1.0")), 1, READY.name)]
        )
        assert reply.has_content(), reply.error
        assert str(tmp_path) not in str(reply.content)


# Flower's simulation runtime


@pytest.mark.slow
def test_the_flower_engine_gives_the_figures_of_the_simulation(
    sites: dict[str, Path],
    in_process: Path,
    tmp_path: Path,
    short_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))
    summary = run_flower(prepared(sites, tmp_path / "out"))
    assert summary.status == "completed"
    assert same_result(in_process, tmp_path / "out")
    assert processes_of(short_folder) == set()
    assert list(short_folder.iterdir()) == []


@pytest.mark.slow
def test_a_failure_in_the_flower_engine_has_its_reason(
    sites: dict[str, Path], tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))
    simulation = prepared(sites, tmp_path / "out", rounds=1)
    gone = [{**node, "folder": f"{node['folder']}-gone"} for node in simulation.nodes[1:]]
    shutil.copytree(sites["b"], gone[0]["folder"])
    (Path(gone[0]["folder"]) / "cohort.csv").unlink()
    simulation = Simulation(
        simulation.experiment,
        simulation.text,
        [simulation.nodes[0], *gone],
        simulation.folder,
        simulation.weights,
    )
    with pytest.raises(ExperimentFailed, match="no quorum: 2 training sites are needed, 1 can"):
        run_flower(simulation)
    assert processes_of(short_folder) == set()
    assert list(short_folder.iterdir()) == []


# Ctrl-C


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder with a path short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ft-", dir="/tmp")).resolve()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


AS_FROM_A_TERMINAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
from fedrad.deploy.commands.main import main
main()
"""


@pytest.mark.parametrize(
    ("engine", "number"),
    [
        ("in-process", signal.SIGINT),
        pytest.param("flower", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("flower", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("flower", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_simulation_that_is_ended_leaves_no_process(
    engine: str,
    number: signal.Signals,
    sites: dict[str, Path],
    tmp_path: Path,
    short_folder: Path,
) -> None:
    (tmp_path / "e.toml").write_text(text(9999))
    command = [
        sys.executable,
        "-c",
        AS_FROM_A_TERMINAL,
        "simulate",
        str(tmp_path / "e.toml"),
        "--out",
        str(tmp_path / "out"),
        "--engine",
        engine,
        *(f"--site={name}={folder}" for name, folder in sites.items()),
    ]
    log = tmp_path / "log"
    with log.open("w") as file:
        program = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(short_folder)},
        )
    try:
        wait_until(lambda: "Round 2 of" in log.read_text() or program.poll() is not None, 300)
        assert program.poll() is None, log.read_text()
        started = processes_of(short_folder)
        assert bool(started) == (engine == "flower")
        os.killpg(program.pid, number)  # as a terminal does
        assert program.wait(timeout=30) != 0
        wait_until(lambda: not any(alive(pid) for pid in started), 20)
        wait_until(lambda: not any(short_folder.iterdir()), 5)
    finally:
        program.kill()
        for pid in processes_of(short_folder):
            os.kill(pid, signal.SIGKILL)
    assert processes_of(short_folder) == set()
    if engine == "in-process":
        assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "stopped"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
