"""The demonstration: three phantom hospitals, a phantom base model, and a federation of them."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from fedrad.client.participant.participant import Participant
from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import open_site
from fedrad.deploy.phantoms import DEMO_HOSPITALS, write_hospital, write_public_cohort
from fedrad.deploy.start.pin import pin_weights
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.messages import BaselineRequest
from fedrad.models.augment import switched_off
from fedrad.models.weights import read_model, save
from fedrad.server.results.summary import Summary
from fedrad.system.files import write_whole

from .simulation import prepare, simulate

log = logging.getLogger("fedrad.demo")

BASE = "phantom-adults.safetensors"
BASE_DESCRIPTION = (
    "phantom weights: a narrow ResNet-18 trained on drawn pictures of adult chests "
    "(`fedrad demo` makes them); they know nothing of real radiographs"
)
PUBLIC_PATIENTS = 800
PATIENTS = {"phantom-a": 240, "phantom-b": 180, "phantom-c": 170}

AUGMENTATION = ", ".join(f"{name} = 0" for name in switched_off("flip"))
"""`recipe.augmentation` of phantoms: of all augmentations the flip alone."""

PRETRAINING = f"""
name = "phantom-adults"
outcomes = ["lung_disease"]
seed = 1
[model]
backbone = "resnet18"
width = 0.25
weights = "random"
size = 96
[recipe]
preset = "full"
batch_size = 32
dropout = 0.0
learning_rates = {{ head = 3e-3, backbone = 3e-3 }}
augmentation = {{ {AUGMENTATION} }}
[federation]
rounds = 16
quorum = 1
[evaluation]
test = 0.01
validation = 0.0
"""

EXPERIMENT = f"""\
# The demonstration: `fedrad demo` writes this file and runs it.
name = "phantom-demo"
outcomes = ["bpd"]
seed = 7

[model]
backbone = "resnet18"
width = 0.25
weights = "phantom-adults.safetensors"
size = 96
base_outputs = {{ bpd = "lung_disease" }}

[recipe]                        # as published, but for what suits a small network and small images
preset = "probe+progressive+cutmix"
augmentation = {{ {AUGMENTATION} }}
local_epochs = 2
probe_learning_rate = 1e-2
learning_rates = {{ head = 3e-3, layer4 = 2e-3, layer3 = 1e-3, layer2 = 5e-4 }}

[federation]
rounds = 12
quorum = 2

[evaluation]
test = 0.3
validation = 0.2
"""


def run_demo(folder: Path) -> tuple[Summary, Path]:
    """Run the demonstration in a folder. Returns the summary and the folder of the results.

    Phantoms and base weights are made if they are missing. The federation is run again, and its
    results replace those of an earlier run.
    """
    experiment_file = folder / "experiment.toml"
    make_phantoms(folder)
    write_whole(experiment_file, EXPERIMENT)
    pin_weights(str(folder / BASE), experiment_file)
    results = folder / "results"
    shutil.rmtree(results, ignore_errors=True)
    log.info("A federation of three phantom hospitals")
    simulation = prepare(experiment_file, {name: folder / name for name in PATIENTS}, results)
    return simulate(simulation), results


def make_phantoms(folder: Path) -> None:
    """Make the phantom hospitals and the base weights that are missing in a folder."""
    for name in (*PATIENTS, "public"):
        _once(folder / name, _write_phantoms)
    if not (folder / BASE).is_file():
        _pretrain(folder / "public", folder / BASE)


def _once(folder: Path, write: Callable[[Path], None]) -> None:
    """Make a cohort unless it is complete (its table is written last)."""
    if (folder / "cohort.csv").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    write(folder)


def _write_phantoms(folder: Path) -> None:
    name = folder.name
    if name == "public":
        write_public_cohort(folder, PUBLIC_PATIENTS, seed=100, progress=_report(name))
    else:
        seed = sorted(PATIENTS).index(name) + 1
        write_hospital(
            folder,
            DEMO_HOSPITALS[name],
            PATIENTS[name],
            seed,
            follow_up=0.2,
            progress=_report(name),
        )


def _report(name: str) -> Callable[[int, int], None]:
    def report(done: int, of: int) -> None:
        if done % 100 == 0 or done == of:
            log.info("%s: drew %d of %d phantoms", name, done, of)

    return report


def _pretrain(public: Path, file: Path) -> None:
    """Train the base weights on the public cohort, by the local-only training of a site."""
    log.info("Training base weights on %d phantom adults", PUBLIC_PATIENTS)
    site = open_site(public, name="public", state=public / "state")
    participant = Participant(SiteData(site, parse_experiment(PRETRAINING)))
    participant.baseline(BaselineRequest())
    network = read_model(participant.local_file, participant.data.base.network)
    save(file, network, outputs=["lung_disease"], description=BASE_DESCRIPTION)
