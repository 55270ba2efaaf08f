"""Does training on simulated later steps help? `recipe.progression` in the phantom ablation.

    python benchmarks/progression_training.py --out DIR --seeds 1 2 3

For each seed a generator is trained as a federated experiment over the demonstration's phantom
hospitals, on the training patients of that seed only; then `fedrad ablate` runs a recipe without,
with, and with edits of the same generator that go nowhere (guidance 0: what an edit does beside
moving towards the disease). 64 pixels, lungs cut out. Prints a Markdown table of AUROC, mean ±
standard deviation over seeds, and the paired differences with a t interval. What is finished is
stored in DIR and not run again.
"""

import argparse
import shutil
import time
from pathlib import Path
from statistics import mean, stdev

import torch
from scipy.stats import t

from fedrad.client.participant.participant import Participant
from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import open_site
from fedrad.deploy.commands.terminal import show_progress
from fedrad.deploy.local import demo
from fedrad.deploy.local.ablate import ablate
from fedrad.deploy.local.simulation import prepare, simulate
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.messages import BaselineRequest
from fedrad.models.weight_files import file_sha256
from fedrad.models.weights import read_model, save
from fedrad.server.results.summary import read_summary

BASE = "phantom-adults-64.safetensors"
GENERATOR = "generator-{seed}.safetensors"
INPUT = 'size = 64\nregion = "lungs"'

TRAIN_GENERATOR = """\
name = "phantom-generator"
task = "progression"
outcomes = ["bpd"]
seed = {seed}
[model]
weights = "random"
{input}
[generator]
channels = [32, 64, 96]
attention = [false, false, false]
patch = 2
learning_rate = 2e-3
local_epochs = 8
samples = 4
[federation]
rounds = {rounds}
[evaluation]
test = 0.3
validation = 0.15
"""

EXPERIMENT = """\
name = "phantom-progression"
outcomes = ["bpd"]
seed = {seed}
[model]
backbone = "resnet18"
width = 0.25
weights = "{base}"
sha256 = "{base_sha256}"
{input}
[recipe]
preset = "progressive"
augmentation = {{ {augmentation} }}
learning_rates = {{ head = 3e-3, layer4 = 2e-3, layer3 = 1e-3, layer2 = 5e-4 }}
[federation]
rounds = 12
[evaluation]
test = 0.3
validation = 0.15
local_baseline = false
[ablation.without]
[ablation.with]
recipe = {{ progression = {{ {edit}, guidance = {guidance} }} }}
[ablation.unguided]
recipe = {{ progression = {{ {edit}, guidance = 0.0 }} }}
"""
EDIT = (
    'probability = {probability}, generator = "{generator}", sha256 = "{sha256}", images = 5, '
    "strength = {strength}, steps = 50"
)
ROWS = ("without", "with", "unguided")


def main() -> None:
    """Do what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=20, help="of the generator")
    parser.add_argument("--strength", type=float, default=0.2)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--probability", type=float, default=0.3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    show_progress()
    arguments.out.mkdir(parents=True, exist_ok=True)
    make_phantoms(arguments.out)
    found = [run(arguments, seed) for seed in arguments.seeds]
    print("\n| row | within-site AUROC | by seed | minus without |\n| --- | --- | --- | --- |")
    for row in ROWS:
        values = [of[row] for of in found]
        differences = [of[row] - of["without"] for of in found]
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        print(
            f"| {row} | {mean(values):.3f}{spread} | "
            f"{' '.join(f'{v:.3f}' for v in values)} | {interval(differences)} |"
        )


def make_phantoms(out: Path) -> None:
    """The demonstration's hospitals, willing to share a generator, and base weights of this
    input."""
    demo.make_phantoms(out)
    for name in demo.PATIENTS:
        (out / name / "site.toml").write_text(
            f'name = "{name}"\n[policy]\nshare_generator = true\n'
        )
    if (out / BASE).is_file():
        return
    text = demo.PRETRAINING.replace("size = 96", INPUT)
    site = open_site(out / "public", name="public", state=out / "public" / "state-64")
    participant = Participant(SiteData(site, parse_experiment(text)))
    participant.baseline(BaselineRequest())
    network = read_model(participant.local_file, participant.data.base.network)
    save(out / BASE, network, outputs=["bpd"], description="phantom adults at 64 pixels")


def run(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    """Row -> within-site AUROC of the global model on one seed's test patients."""
    out: Path = arguments.out
    sites = {name: out / name for name in demo.PATIENTS}
    generator = out / GENERATOR.format(seed=seed)
    folder = out / f"seed-{seed}"
    if not generator.is_file():
        started = time.perf_counter()
        shutil.rmtree(folder, ignore_errors=True)
        file = out / f"generator-{seed}.toml"
        file.write_text(TRAIN_GENERATOR.format(seed=seed, input=INPUT, rounds=arguments.rounds))
        made = folder / "generator"
        simulate(prepare(file, sites, made, state=folder / "sites"))
        shutil.copy(made / "model.safetensors", generator)
        print(f"seed {seed}: generator in {time.perf_counter() - started:.0f} s", flush=True)
    experiment = out / f"experiment-{seed}.toml"
    edit = EDIT.format(
        probability=arguments.probability,
        generator=generator.name,
        sha256=file_sha256(generator),
        strength=arguments.strength,
    )
    experiment.write_text(
        EXPERIMENT.format(
            seed=seed,
            augmentation=demo.AUGMENTATION,
            input=INPUT,
            base=BASE,
            base_sha256=file_sha256(out / BASE),
            edit=edit,
            guidance=arguments.guidance,
        )
    )
    ablate(experiment, sites, folder)
    print((folder / "compare.md").read_text())
    return {row: within(folder / row) for row in ROWS}


def within(folder: Path) -> float:
    (overall,) = [o for o in read_summary(folder).overall if o.model == "global"]
    return float(overall.within or "nan")


def interval(values: list[float]) -> str:
    """Mean and its 95 % interval by Student's t over seeds."""
    if len(values) < 2 or stdev(values) == 0:
        return f"{mean(values):+.3f}"
    half = t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{mean(values):+.3f} [{mean(values) - half:+.3f}, {mean(values) + half:+.3f}]"


if __name__ == "__main__":
    main()
