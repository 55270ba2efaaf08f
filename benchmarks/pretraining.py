"""Does pretraining on the other hospital's patients help, and is `progressive` better than `full`?

    python benchmarks/pretraining.py --site NAME=FOLDER --site NAME=FOLDER --out DIR --seeds 5

For each seed and each of two hospitals: a network is trained from random weights on all patients
of the other hospital (`full`), then fine-tuned under both recipes at home, beside the same two
recipes from the random weights themselves. Split, random weights, order and augmentation of a seed
are the same in all four arms, so differences are paired. Scored once, on the home test patients.
Prints a Markdown table of AUROC: mean ± standard deviation over seeds, and paired differences.
Results of finished seeds are in DIR/results.json and are not computed again.
"""

import argparse
import copy
import json
import time
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import Experiment
from fedrad.models.examples import Examples
from fedrad.models.network import ResNet
from fedrad.models.schedule import Schedule
from fedrad.models.settings import RecipeSettings
from fedrad.models.training import score, train_round

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STARTS = ("random", "other hospital")
RECIPES = ("full", "progressive")

Results = dict[str, dict[str, float]]
"""Seed -> "site | start | recipe" -> AUROC."""


def main() -> None:
    """Run the seeds that are not done yet, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folders = {n: Path(f) for n, _, f in (s.partition("=") for s in arguments.site)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.json"
    results: Results = json.loads(file.read_text()) if file.is_file() else {}
    for seed in range(arguments.seeds):
        if str(seed) not in results:
            started = time.perf_counter()
            results[str(seed)] = run(arguments, folders, seed)
            file.write_text(json.dumps(results, indent=1))
            print(f"seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    show(results, list(folders))


def run(arguments: argparse.Namespace, folders: dict[str, Path], seed: int) -> dict[str, float]:
    """AUROC of every arm at both sites under one seed."""
    experiment = Experiment.model_validate(
        {
            "name": "pretraining",
            "outcomes": ["label"],
            "seed": seed,
            "model": {
                "backbone": "resnet18",
                "width": arguments.width,
                "weights": "random",
                "size": arguments.size,
            },
            "federation": {"rounds": arguments.rounds},
        }
    )
    sites = {
        name: SiteData(open_site(folder, name=name, state=arguments.out / name), experiment)
        for name, folder in folders.items()
    }
    found = {}
    for home, other in (list(sites), list(sites)[::-1]):
        everyone = sites[other].parts.values()
        pretraining = Examples(
            np.concatenate([part.images[:] for part in everyone]),
            np.concatenate([part.labels for part in everyone]),
        )
        blank = sites[home].base.network
        pretrained = trained(blank, pretraining, "full", arguments.rounds, seed)
        for start, recipe in product(STARTS, RECIPES):
            network = copy.deepcopy(blank)
            if start == "other hospital":
                network.load_state_dict(pretrained.state_dict())
                network.fc.load_state_dict(blank.fc.state_dict())  # a new head
            tuned = trained(network, sites[home].parts["train"], recipe, arguments.rounds, seed)
            test = sites[home].parts["test"]
            logits = score(tuned, test.images, device=DEVICE)
            auroc = float(roc_auc_score(test.labels[:, 0], logits[:, 0]))
            found[f"{home} | {start} | {recipe}"] = auroc
            print(seed, home, start, recipe, f"{auroc:.3f}", flush=True)
    return found


def trained(network: ResNet, examples: Examples, recipe: str, rounds: int, seed: int) -> ResNet:
    """A copy of the network after all rounds of a recipe."""
    network = copy.deepcopy(network)
    schedule = Schedule(RecipeSettings(preset=recipe, batch_size=16), rounds)
    for round_ in range(rounds):
        train_round(network, examples, schedule, round_, seed=1000 * seed + round_, device=DEVICE)
    return network


def show(results: Results, sites: list[str]) -> None:
    """Print the table in Markdown."""

    def over_seeds(values: list[float]) -> str:
        return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")

    def auroc(site: str, start: str, recipe: str) -> list[float]:
        return [results[seed][f"{site} | {start} | {recipe}"] for seed in sorted(results)]

    def difference(first: list[float], second: list[float]) -> str:
        values = [a - b for a, b in zip(first, second, strict=True)]
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        return f"{mean(values):+.3f}{spread} ({sum(v > 0 for v in values)} of {len(values)})"

    print("\n| home | start | full | progressive | progressive - full (better in) |")
    print("| --- | --- | --- | --- | --- |")
    for site in sites:
        for start in STARTS:
            full, progressive = (auroc(site, start, recipe) for recipe in RECIPES)
            cells = [site, start, over_seeds(full), over_seeds(progressive)]
            print(f"| {' | '.join(cells)} | {difference(progressive, full)} |")
        gains = [
            difference(auroc(site, STARTS[1], recipe), auroc(site, STARTS[0], recipe))
            for recipe in RECIPES
        ]
        print(f"| {site} | other hospital - random | {gains[0]} | {gains[1]} | |")


if __name__ == "__main__":
    main()
