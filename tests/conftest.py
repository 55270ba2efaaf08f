"""Small hospitals for tests: PNG files with a bright blob where the outcome is 1."""

import os
import types
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores

import pytest
from hypothesis import settings
from support.hospital import EXPERIMENT, ManualClock, TwoHospitals, write_site

from fedrad.deploy.local.simulation import prepare, simulate
from fedrad.server.federation import federation as federation_module
from fedrad.server.federation import visit as visit_module

settings.register_profile("fedrad", deadline=None)  # a busy machine is no failure
settings.load_profile("fedrad")

WEIGHTS = os.environ.get("FEDRAD_WEIGHTS", "")


@pytest.fixture(autouse=True)
def _no_weights_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """`add_weight_folder` holds for a process, which several tests share."""
    monkeypatch.setenv("FEDRAD_WEIGHTS", WEIGHTS)


@pytest.fixture
def sites(tmp_path: Path) -> dict[str, Path]:
    """Two sites with both classes and one whose patients all have the outcome."""
    return {
        "a": write_site(tmp_path / "sites" / "a", 40, seed=1),
        "b": write_site(tmp_path / "sites" / "b", 30, seed=2, prevalence=0.4),
        "one": write_site(tmp_path / "sites" / "one", 15, seed=3, prevalence=1.0),
    }


@pytest.fixture
def experiment_file(tmp_path: Path) -> Path:
    """A small experiment: narrow ResNet-18, random weights, two rounds."""
    file = tmp_path / "experiment.toml"
    file.write_text(EXPERIMENT)
    return file


@pytest.fixture
def hospitals(tmp_path: Path) -> TwoHospitals:
    return TwoHospitals(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A small experiment over the sites `a` and `b`; its results in `out`. For reading only."""
    root = tmp_path_factory.mktemp("experiment")
    sites = {
        "a": write_site(root / "a", 40, seed=1),
        "b": write_site(root / "b", 30, seed=2, prevalence=0.4),
    }
    (root / "experiment.toml").write_text(EXPERIMENT)
    simulate(prepare(root / "experiment.toml", sites, root / "out"))
    return root


@pytest.fixture
def clock(monkeypatch) -> ManualClock:
    clock = ManualClock()
    fake = types.SimpleNamespace(monotonic=lambda: clock.now, sleep=clock.sleep)
    monkeypatch.setattr(federation_module, "time", fake)
    monkeypatch.setattr(visit_module, "time", fake)
    return clock
