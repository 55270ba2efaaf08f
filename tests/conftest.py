"""Small hospitals for tests: PNG files with a bright blob where the outcome is 1."""

import csv
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores

import numpy as np
import pytest
from PIL import Image

EXPERIMENT = """
name = "test"
outcomes = ["label"]
seed = 3
[model]
backbone = "resnet18"
width = 0.125
weights = "random"
size = 32
[recipe]
preset = "full"
batch_size = 8
learning_rates = { head = 3e-3, backbone = 3e-3 }
[federation]
rounds = 2
[evaluation]
test = 0.4
validation = 0.2
minimum_units = 3
"""


def write_site(
    folder: Path, patients: int = 40, *, seed: int = 0, prevalence: float = 0.5, threads: int = 1
) -> Path:
    """A site of one PNG per patient, `cohort.csv` and a `site.toml` with one thread."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(patients):
        label = int(number < round(prevalence * patients))
        picture = rng.normal(90, 25, (48, 40))
        row, column = rng.integers(8, 32, 2)
        picture[row : row + 8, column : column + 8] += 70 * label
        file = f"images/{number:04d}.png"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / file)
        rows.append({"file": file, "patient_id": f"CANARY-{seed}-{number:04d}", "label": label})
    write_cohort(folder, rows)
    (folder / "site.toml").write_text(
        f'name = "{folder.name}"\nthreads = {threads}\n[policy]\nminimum_units = 3\n'
    )
    return folder


def write_cohort(folder: Path, rows: list[dict[str, object]]) -> None:
    """Write `cohort.csv`."""
    with (folder / "cohort.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


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
