"""Small hospitals and experiments: PNG files with a bright blob where the outcome is 1."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from fedrad.deploy.local.simulation import prepare, simulate
from fedrad.models.weight_files import file_sha256

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


SHORT = EXPERIMENT.replace("rounds = 2", "rounds = 1").replace(
    "minimum_units = 3", "minimum_units = 3\nlocal_baseline = false"
)


def write_site(
    folder: Path,
    patients: int = 40,
    *,
    seed: int = 0,
    prevalence: float = 0.5,
    threads: int = 1,
    policy: str = "",
) -> Path:
    """A site of one PNG per patient, `cohort.csv` and a `site.toml` with one thread. `policy`:
    further lines of `[policy]`; a site that joins needs `columns`."""
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
        f'name = "{folder.name}"\nthreads = {threads}\n[policy]\nminimum_units = 3\n{policy}'
    )
    return folder


def write_cohort(folder: Path, rows: list[dict[str, object]]) -> None:
    """Write `cohort.csv`."""
    with (folder / "cohort.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


class TwoHospitals:
    """Two hospitals which keep what is theirs over several experiments."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path
        self.state = tmp_path / "state"
        self.sites = {
            name: write_site(tmp_path / name, 30, seed=seed)
            for seed, name in enumerate(["a", "b"], start=1)
        }

    def run(self, number: int, *, base: Path | None = None, sites=None, state=None, **changes):
        """Run an experiment from the model of an earlier one. Returns its folder."""
        folder = self.root / f"experiment-{number}"
        folder.mkdir()
        text = SHORT.replace('name = "test"', f'name = "test-{number}"')
        if base is not None:
            copy = folder / "base.safetensors"
            copy.write_bytes((base / "model.safetensors").read_bytes())
            text = text.replace('"random"', f'"base.safetensors"\nsha256 = "{file_sha256(copy)}"')
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new)
        (folder / "experiment.toml").write_text(text)
        simulation = prepare(
            folder / "experiment.toml",
            sites or self.sites,
            folder / "out",
            state=state or self.state,
        )
        simulate(simulation)
        return folder / "out"


class ManualClock:
    """A clock that moves only when the code under test sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(text: str, sites: dict[str, Path], folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.toml").write_text(text)
    return simulate(prepare(folder / "experiment.toml", sites, folder / "out"))


def with_sites(text: str, *names: str) -> str:
    """The experiment with `federation.sites`, which local-only models that travel need."""
    return text.replace("[federation]\n", f"[federation]\nsites = {list(names)}\n")


def with_(text: str, **evaluation: str) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in evaluation.items())
    return text.replace("[evaluation]\n", f"[evaluation]\n{lines}")
