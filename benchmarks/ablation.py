"""The paper's ablation on phantoms: is the order of its rows the same?

    python benchmarks/ablation.py --out OUT [--folds 5] [--rounds 10]

Phantom hospitals and phantom base weights are those of the demonstration (`fedrad demo`); the
control's weights come from handwritten digits (scikit-learn's), which are to a chest what ImageNet
is in the paper: pictures of something else. A second start continues after the finished rows.
"""

import argparse
import csv
import time
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

from fedrad.client.participant.participant import Participant
from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import open_site
from fedrad.deploy.commands.terminal import show_progress
from fedrad.deploy.local import demo
from fedrad.deploy.local.ablate import ablate
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.messages import BaselineRequest
from fedrad.models.weight_files import file_sha256
from fedrad.models.weights import read_model, save

CONTROL = "digits.safetensors"

EXPERIMENT = """\
name = "phantom-ablation"
outcomes = ["bpd"]
seed = 7
[model]
backbone = "resnet18"
width = 0.25
weights = "{base}"
sha256 = "{base_sha256}"
size = 96
[recipe]
augmentation = {{ {augmentation} }}
probe_learning_rate = 1e-2
learning_rates = {{ head = 3e-3, layer4 = 2e-3, layer3 = 1e-3, layer2 = 5e-4, backbone = 1e-3 }}
views = 2
[federation]
rounds = {rounds}
[evaluation]
folds = {folds}
validation = 0.15
local_baseline = false
[ablation.random]
model = {{ weights = "random" }}
recipe = {{ preset = "full" }}
[ablation.control]
model = {{ weights = "{control}", sha256 = "{control_sha256}" }}
recipe = {{ preset = "progressive" }}
[ablation.probe]
recipe = {{ preset = "probe" }}
[ablation.full]
recipe = {{ preset = "full" }}
[ablation.progressive]
recipe = {{ preset = "progressive" }}
[ablation.published]
recipe = {{ preset = "probe+progressive+cutmix" }}
"""


def main() -> None:
    """Make what is missing, run the rows, print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    show_progress()
    out: Path = arguments.out
    demo.make_phantoms(out)
    if not (out / CONTROL).is_file():
        pretrain_on_digits(out / "digits", out / CONTROL)
    experiment = out / "experiment.toml"
    experiment.write_text(
        EXPERIMENT.format(
            augmentation=demo.AUGMENTATION,
            base=demo.BASE,
            base_sha256=file_sha256(out / demo.BASE),
            control=CONTROL,
            control_sha256=file_sha256(out / CONTROL),
            folds=arguments.folds,
            rounds=arguments.rounds,
        )
    )
    started = time.perf_counter()
    ablate(experiment, {name: out / name for name in demo.PATIENTS}, out / "ablation")
    print((out / "ablation" / "compare.md").read_text())
    print(f"{time.perf_counter() - started:.0f} s")


def pretrain_on_digits(folder: Path, file: Path) -> None:
    """Train the control's weights as the demonstration trains its base, on digits: odd or even."""
    digits = load_digits()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "cohort.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "patient_id", "lung_disease"])
        for i, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
            if i == demo.PUBLIC_PATIENTS:
                break
            name = f"images/{i:04}.png"
            Image.fromarray((image * 255 / 16).astype("uint8")).resize((96, 96)).save(folder / name)
            table.writerow([name, i, digit % 2])
    (folder / "site.toml").write_text('name = "digits"\n')
    site = open_site(folder, name="digits", state=folder / "state")
    participant = Participant(SiteData(site, parse_experiment(demo.PRETRAINING)))
    participant.baseline(BaselineRequest())
    network = read_model(participant.local_file, participant.data.base.network)
    save(file, network, outputs=["odd"], description="a narrow ResNet-18 trained on digits")


if __name__ == "__main__":
    main()
