"""Optimiser moments between rounds, reset or kept, compared on real sites with several seeds.

    python benchmarks/moments.py --site NAME=FOLDER … --out DIR --seeds 3

Runs `fedrad simulate` with `recipe.moments` "reset" and "keep" under the same seeds (split, random
weights, order, augmentation) for two recipes. Prints a Markdown table: within-site AUROC on test
patients and mean training loss of the last round, mean ± standard deviation over seeds, and the
paired difference. Results of finished runs are in DIR/results.json and are not computed again.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import torch

from fedrad.deploy.local.simulation import prepare, simulate

RECIPES = ("full", "probe+progressive+cutmix")
MOMENTS = ("reset", "keep")

EXPERIMENT = """
name = "moments"
outcomes = ["label"]
seed = {seed}
[model]
backbone = "resnet18"
width = 0.25
weights = "random"
size = 64
[recipe]
preset = "{recipe}"
moments = "{moments}"
batch_size = 16
[federation]
rounds = 12
[evaluation]
local_baseline = false
"""


def main() -> None:
    """Do the runs that are not done yet, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sites = {n: Path(f) for n, _, f in (s.partition("=") for s in arguments.site)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    for seed, recipe, moments in product(range(arguments.seeds), RECIPES, MOMENTS):
        key = f"{recipe} | {moments} | {seed}"
        if key not in results:
            results[key] = run(arguments.out, sites, seed, recipe, moments)
            file.write_text(json.dumps(results, indent=1))
            print(key, results[key], flush=True)
    print("\n| recipe | figure | reset | keep | keep - reset |\n| --- | --- | --- | --- | --- |")
    for recipe, (number, name) in product(RECIPES, enumerate(("within-site AUROC", "loss"))):
        values = [
            [results[f"{recipe} | {moments} | {seed}"][number] for seed in range(arguments.seeds)]
            for moments in MOMENTS
        ]
        values.append([b - a for a, b in zip(*values, strict=True)])
        cells = [f"{mean(v):.3f} ± {stdev(v):.3f}" for v in values]
        print(f"| {recipe} | {name} | {' | '.join(cells)} |")


def run(
    out: Path, sites: dict[str, Path], seed: int, recipe: str, moments: str
) -> tuple[float, float]:
    """Within-site AUROC of the global model, and mean loss of the sites' last round."""
    folder = out / f"{recipe}-{moments}-{seed}"
    folder.mkdir(exist_ok=True)
    file = out / f"{folder.name}.toml"
    file.write_text(EXPERIMENT.format(seed=seed, recipe=recipe, moments=moments))
    for name in sites:  # decoded once for all runs
        decoded = (out / "images" / name).resolve()
        decoded.mkdir(parents=True, exist_ok=True)
        (folder / "sites" / name).mkdir(parents=True, exist_ok=True)
        link = folder / "sites" / name / "images"
        if not link.exists():
            link.symlink_to(decoded)
    summary = simulate(prepare(file, sites, folder))
    (overall,) = [o for o in summary.overall if o.model == "global"]
    losses = [s.loss for s in summary.rounds[-1].sites.values() if s.loss is not None]
    return float(overall.within or "nan"), mean(losses)


if __name__ == "__main__":
    main()
