"""The same apps, the same figures: in one process, over a real SuperLink, in Flower's simulation;
and nothing of Flower is left behind."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fedrad.deploy.flower_engine import run_flower
from fedrad.deploy.flower_processes import BUNDLE, Flower, own_flower, processes_of
from fedrad.deploy.simulation import Simulation, prepare, simulate
from fedrad.server.federation import ExperimentFailed
from fedrad.server.summary import Summary, read_summary
from flwr.cli.build import build_fab_from_disk
from PIL import Image
from safetensors.numpy import load_file

EXPERIMENT = """
name = "three-ways"
outcomes = ["label"]
[model]
backbone = "resnet18"
width = 0.25
weights = "random"
size = 32
[recipe]
preset = "full"
batch_size = 16
[federation]
rounds = {rounds}
quorum = 2
[evaluation]
minimum_units = 5
local_baseline = false
"""


def write_png_site(folder: Path, patients: int, seed: int) -> Path:
    """A site of noise images; those with label 1 have a bright patch."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with (folder / "cohort.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "patient_id", "label"])
        for patient in range(patients):
            image = random.integers(0, 120, random.integers(32, 65, 2), dtype=np.uint8)
            if patient % 2:
                image[8:20, 8:20] += 100
            Image.fromarray(image).save(folder / f"{patient:03}.png")
            table.writerow([f"{patient:03}.png", f"p{patient}", patient % 2])
    (folder / "site.toml").write_text(
        f'name = "{folder.name}"\nthreads = 1\n[policy]\nminimum_units = 5\n'
    )
    return folder


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sites")
    return {name: write_png_site(root / name, 60, seed) for seed, name in enumerate("ab")}


def prepared(sites: dict[str, Path], out: Path, rounds: int = 2) -> Simulation:
    out.mkdir(parents=True)
    file = out / "given.toml"
    file.write_text(EXPERIMENT.format(rounds=rounds))
    return prepare(file, sites, out)


@pytest.fixture(scope="module")
def in_process(sites: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("in-process") / "out"
    simulate(prepared(sites, out))
    return out


def same_result(one: Path, other: Path) -> bool:
    """Whether two experiments ended in the same figures and, bit for bit, the same model."""
    a, b = read_summary(one), read_summary(other)
    assert a.status == b.status == "completed"
    assert [c.auroc for c in a.cells if c.model == "global"] != [None, None]
    assert a.cells == b.cells
    assert a.overall == b.overall
    models = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert models[0].keys() == models[1].keys()
    return all(value.tobytes() == models[1][name].tobytes() for name, value in models[0].items())


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
) -> Iterator[Flower]:
    with own_flower({"OMP_NUM_THREADS": "1", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1"}) as flower:
        flower.start_superlink()
        for name, folder in sites.items():
            state = tmp_path_factory.mktemp("state") / name
            flower.start_supernode(name, {"folder": str(folder), "name": name, "state": str(state)})
        yield flower
        folder = flower.folder
    assert processes_of(folder) == set()
    assert not folder.exists()


def run(flower: Flower, text: str, out: Path, wait_seconds: float) -> tuple[list[str], Summary]:
    lines = list(flower.run({"experiment": text, "out": str(out), "wait-seconds": wait_seconds}))
    return lines, read_summary(out)


def test_real_sites_give_the_figures_of_the_simulation(
    federation: Flower, in_process: Path, tmp_path: Path
) -> None:
    text = EXPERIMENT.format(rounds=2)
    lines, summary = run(federation, text, tmp_path / "out", wait_seconds=90)
    assert summary.status == "completed", "\n".join(lines)
    assert same_result(in_process, tmp_path / "out")
    assert "fedrad INFO Round 1 of 2, stage all" in lines


def test_a_site_that_lost_its_table_tells_the_coordinator_one_sentence_and_no_path(
    federation: Flower, sites: dict[str, Path], tmp_path: Path
) -> None:
    table = sites["b"] / "cohort.csv"
    table.rename(table.with_suffix(".away"))
    try:
        lines, summary = run(
            federation, EXPERIMENT.format(rounds=1), tmp_path / "out", wait_seconds=0
        )
    finally:
        table.with_suffix(".away").rename(table)
    assert summary.status == "failed"
    assert "no quorum" in (summary.why or "")
    assert len(summary.absent) == 1
    at_the_coordinator = "\n".join(lines) + federation.words("superlink", 100_000)
    for name in (str(sites["b"]), "cohort.csv", "SiteProblem"):
        assert name not in at_the_coordinator
        assert name not in (tmp_path / "out" / "summary.json").read_text()


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
        simulation.experiment, simulation.text, [simulation.nodes[0], *gone], simulation.folder
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
    (tmp_path / "e.toml").write_text(EXPERIMENT.format(rounds=9999))
    command = [
        sys.executable, "-c", "from fedrad.deploy.cli import main; main()", "simulate",
        str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"), "--engine", engine,
        *(f"--site={name}={folder}" for name, folder in sites.items()),
    ]  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as file:
        program = subprocess.Popen(
            command, stdout=file, stderr=file, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(short_folder)},
        )  # fmt: skip
    try:
        wait_until(lambda: "Round 2 of" in log.read_text() or program.poll() is not None, 300)
        assert program.poll() is None, log.read_text()
        started = processes_of(short_folder)
        assert bool(started) == (engine == "flower")
        os.killpg(program.pid, number)  # as a terminal does
        assert program.wait(timeout=30) != 0
        wait_until(lambda: not any(alive(pid) for pid in started), 15)
    finally:
        program.kill()
        for pid in processes_of(short_folder):
            os.kill(pid, signal.SIGKILL)
    assert processes_of(short_folder) == set()
    if number != signal.SIGKILL:
        assert list(short_folder.iterdir()) == []
    if engine == "in-process":
        assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "stopped"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)
