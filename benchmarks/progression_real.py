"""Simulated progressions of real radiographs, compared with the real follow-up images.

    python benchmarks/progression_real.py cohorts --data SITES --out DIR
    python benchmarks/progression_real.py generator --out DIR --rounds 25   # continues if run again
    python benchmarks/progression_real.py classifier --out DIR
    python benchmarks/progression_real.py measure --out DIR
    python benchmarks/progression_real.py films --out DIR

SITES is the folder of the four real sites; images are copied into DIR. Patients are divided once.
Those with follow-up, and some patients of two hospitals, are edited and train neither network. A
generator is trained as a federated experiment over nih-large, half of Guangzhou, and Hannover. A
classifier is trained over nih-small and the other half of Guangzhou, so it has not seen the
patients of the generator. Images are lungs at 64 pixels. The region is the simple lung mask.

Follow-up pairs are, for NIH, the last image before pneumonia and the first with it; for Hannover,
the first and the last image of a COVID-19 patient. The edit is compared with no edit and with the
same edit towards the absent outcome, for each patient, by its distance to the real later image in
pixels and in the classifier's features.
"""

import argparse
import csv
import json
import shutil
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from progression import interval

from fedrad.client.images.lung_mask import lung_mask
from fedrad.client.images.pictures import read_pictures
from fedrad.deploy.commands.terminal import show_progress
from fedrad.deploy.local.simulation import load_simulation, prepare, simulate
from fedrad.models.network import ResNet
from fedrad.models.progression.generators import OpenedGenerator, open_generator
from fedrad.models.progression.iteration import simulate_progression
from fedrad.models.progression.measures import (
    gain_towards_later,
    kendall_trends,
    kernel_inception_distance,
    monotone_share,
)
from fedrad.models.settings import InputSettings, ModelSettings, ProgressionSettings
from fedrad.models.training import features, score
from fedrad.models.weights import read_model
from fedrad.server.results.summary import read_summary

CPU = torch.device("cpu")
INPUT = InputSettings(size=64, region="lungs")
READER = ModelSettings(backbone="resnet18", width=0.25, weights="random", size=64, region="lungs")
EDITED, WITH_OUTCOME = 40, 80
"""Patients of a hospital without the outcome who are edited, and with it who are what is real."""
ROLES = {
    "generator": ("nih-large", "guangzhou-children", "hannover-one-class"),
    "classifier": ("nih-small", "guangzhou-children"),
}

GENERATOR = """\
name = "real-generator"
task = "progression"
outcomes = ["label"]
seed = 1
[model]
weights = "random"
size = 64
region = "lungs"
[generator]
channels = [32, 64, 96]
attention = [false, false, false]
patch = 2
learning_rate = 2e-3
local_epochs = 4
samples = 4
[federation]
rounds = {rounds}
quorum = 3
train_one_class = true
[evaluation]
test = 0.02
validation = 0.1
"""

CLASSIFIER = """\
name = "real-reader"
outcomes = ["label"]
seed = 1
[model]
backbone = "resnet18"
width = 0.25
weights = "random"
size = 64
region = "lungs"
[recipe]
preset = "full"
batch_size = 16
[federation]
rounds = 20
[evaluation]
test = 0.2
validation = 0.1
local_baseline = false
"""

Row = dict[str, str]


# Who is for what


def cohorts(arguments: argparse.Namespace) -> None:
    """Divide the patients; write the tables of both federations, and `held.json`."""
    held: dict[str, list] = {"pairs": [], "edited": [], "with outcome": []}
    tables: dict[tuple[str, str], list[Row]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for site in ("nih-large", "nih-small", "guangzhou-children", "hannover-one-class"):
        with (arguments.data / site / "cohort.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        patients: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            patients[row["patient_id"]].append(row)
        left = []
        for name in sorted(patients):
            if pair := follow_up(patients[name]):
                images = [str(arguments.data / site / row["file"]) for row in pair]
                held["pairs"].append({"site": site, "images": images})
            else:
                left.append(name)
        left = [left[k] for k in rng.permutation(len(left))]
        if site in ("nih-large", "guangzhou-children"):
            for role, label, count in (
                ("edited", "0", EDITED),
                ("with outcome", "1", WITH_OUTCOME),
            ):
                some = [n for n in left if {r["label"] for r in patients[n]} == {label}][:count]
                held[role] += [
                    {"site": site, "image": str(arguments.data / site / patients[n][0]["file"])}
                    for n in some
                ]
                left = [n for n in left if n not in set(some)]
        roles = [role for role in ROLES if site in ROLES[role]]
        for number, name in enumerate(left):
            tables[roles[number % len(roles)], site] += patients[name]
    for (role, site), rows in tables.items():
        folder = arguments.out / role / site
        folder.mkdir(parents=True, exist_ok=True)
        for row in rows:
            shutil.copy(arguments.data / site / row["file"], folder)
        with (folder / "cohort.csv").open("w", newline="") as stream:
            table = csv.DictWriter(stream, ["file", "patient_id", "label"], extrasaction="ignore")
            table.writeheader()
            table.writerows({**row, "file": Path(row["file"]).name} for row in rows)
        (folder / "site.toml").write_text(f'name = "{site}"\n[policy]\nshare_generator = true\n')
        print(f"{role}, {site}: {len(rows)} images of {len({r['patient_id'] for r in rows})}")
    (arguments.out / "held.json").write_text(json.dumps(held))
    for role, entries in held.items():
        print(
            role,
            {
                site: sum(e["site"] == site for e in entries)
                for site in {e["site"] for e in entries}
            },
        )


def follow_up(rows: list[Row]) -> tuple[Row, Row] | None:
    """An earlier and a later image of one patient, between which the disease began or continued."""
    if rows[0]["day_offset"]:
        ordered = sorted(rows, key=lambda row: float(row["day_offset"]))
        first, last = ordered[0], ordered[-1]
        return (first, last) if first["day_offset"] != last["day_offset"] else None
    if not rows[0]["order_index"]:
        return None
    ordered = sorted(rows, key=lambda row: float(row["order_index"]))
    for before, after in pairwise(ordered):
        if (before["label"], after["label"]) == ("0", "1"):
            return before, after
    return None


# Networks


def generator(arguments: argparse.Namespace) -> None:
    """Train the generator over its sites."""
    train(arguments.out, "generator", GENERATOR.format(rounds=arguments.rounds))


def classifier(arguments: argparse.Namespace) -> None:
    """Train the classifier over its sites, and print its AUROC on test patients."""
    train(arguments.out, "classifier", CLASSIFIER)
    (overall,) = [
        o for o in read_summary(arguments.out / "classifier" / "run").overall if o.model == "global"
    ]
    print(f"classifier: within-site AUROC {overall.within:.3f} on its own test patients")


def train(out: Path, role: str, text: str) -> None:
    """Start or resume the experiment that trains one of the networks."""
    run = out / role / "run"
    if earlier := load_simulation(run):
        simulate(earlier[0])
        return
    file = out / role / "experiment.toml"
    file.write_text(text)
    simulate(prepare(file, {site: out / role / site for site in ROLES[role]}, run))


# Edits


class Edits:
    """Both networks, and the settings of the edit."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        out: Path = arguments.out
        self.generator: OpenedGenerator = open_generator(
            out / "generator" / "run" / "model.safetensors"
        )
        self.reader = read_model(
            out / "classifier" / "run" / "model.safetensors", ResNet(READER, 1)
        ).eval()
        self.settings = ProgressionSettings(
            images=arguments.images,
            strength=arguments.strength,
            steps=arguments.steps,
            guidance=arguments.guidance,
        )

    def towards(
        self,
        images: NDArray[np.float16],
        masks: NDArray[np.float32],
        *,
        present: bool = True,
        guidance: float | None = None,
    ) -> NDArray[np.float32]:
        """Trajectories (M, N + 1, 64, 64)."""
        settings = self.settings
        if guidance is not None:
            settings = settings.model_copy(update={"guidance": guidance})
        condition = self.generator.condition("label", present=present)
        return simulate_progression(
            self.generator.generator, images, condition, settings, device=CPU, mask=masks
        )

    def ways(
        self, images: NDArray[np.float16], masks: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Trajectories of the edit and of what it must beat; noise is of the edit's own size."""
        found = {
            "PIE": self.towards(images, masks),
            "to the opposite class": self.towards(images, masks, present=False),
            "unguided": self.towards(images, masks, guidance=0.0),
        }
        change = (found["PIE"] - found["PIE"][:, :1]) * masks[:, None]
        size = np.sqrt((change**2).mean((2, 3), keepdims=True))
        noise = np.random.default_rng(0).normal(size=change.shape) * masks[:, None]
        noise *= size / np.sqrt((noise**2).mean((2, 3), keepdims=True))
        found["noise"] = (images[:, None] + noise).clip(-1024, 1024).astype(np.float32)
        return found

    def logits(self, steps: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of trajectories, (M, N + 1)."""
        flat = steps.reshape(-1, 64, 64).astype(np.float16)
        return score(self.reader, flat, device=CPU)[:, 0].reshape(steps.shape[:2])

    def features(self, images: NDArray[np.floating]) -> NDArray[np.float32]:
        """(M, F)."""
        return features(self.reader, images.astype(np.float16), device=CPU)


def read(files: list[str]) -> tuple[NDArray[np.float16], NDArray[np.float32], NDArray[np.intp]]:
    """Pictures and lung masks of the files in which lungs were found, and their rows."""
    _, pictures = read_pictures(files, INPUT)
    masks = {row: lung_mask(picture) for row, picture in sorted(pictures.items())}
    rows = [row for row, mask in masks.items() if mask is not None]
    return (
        np.stack([pictures[row] for row in rows]),
        np.stack([masks[row] for row in rows]),
        np.array(rows),
    )


def measure(arguments: argparse.Namespace) -> None:
    """The tables: edits of each hospital's patients, then the pairs."""
    edits = Edits(arguments)
    held = json.loads((arguments.out / "held.json").read_text())
    print(f"strength {arguments.strength}, guidance {arguments.guidance}\n")
    print(
        "| hospital | way | logit gained | monotone | τ | own image (others = 1) | "
        "KID to real with the outcome | outside |\n|" + " --- |" * 8
    )
    for site in ("nih-large", "guangzhou-children"):
        images, masks, _ = read([e["image"] for e in held["edited"] if e["site"] == site])
        real, _, _ = read([e["image"] for e in held["with outcome"] if e["site"] == site])
        own, of_real = edits.features(images), edits.features(real)
        between = np.linalg.norm(own[:, None] - own[None], axis=2)
        between = np.median(between[~np.eye(len(own), dtype=bool)])
        apart = (
            edits.logits(real[:, None])[:, 0].mean() - edits.logits(images[:, None])[:, 0].mean()
        )
        print(
            f"| {site} ({len(images)}; with the outcome: {apart:+.2f}) | no edit | | | | 0 | "
            f"{kernel_inception_distance(own, of_real):.3f} | 0 |"
        )
        for way, steps in edits.ways(images, masks).items():
            logits, last = edits.logits(steps), edits.features(steps[:, -1])
            outside = np.abs((steps[:, -1] - steps[:, 0]) * (masks == 0)).sum() / (masks == 0).sum()
            print(
                f"| | {way} | {interval(logits[:, -1] - logits[:, 0])} | "
                f"{monotone_share(logits):.0%} | {interval(kendall_trends(logits))} | "
                f"{np.median(np.linalg.norm(last - own, axis=1)) / between:.2f} | "
                f"{kernel_inception_distance(last, of_real):.3f} | {outside:.1f} |",
                flush=True,
            )
    pairs(edits, held["pairs"])


def pairs(edits: Edits, held: list[dict]) -> None:
    """Print whether the edited image is nearer to the patient's real later image."""
    print(
        "\n| pairs | way | nearer in pixels than no edit | than the opposite class | "
        "nearer in features than no edit | than the opposite class |\n|" + " --- |" * 6
    )
    for name in ("nih", "hannover"):
        some = [pair["images"] for pair in held if pair["site"].startswith(name)]
        before, masks, there = read([pair[0] for pair in some])
        after, _, also = read([pair[1] for pair in some])
        both = sorted(set(there) & set(also))
        at, later = np.searchsorted(there, both), after[np.searchsorted(also, both)]
        before, masks = before[at], masks[at]
        apart = edits.logits(later[:, None])[:, 0] - edits.logits(before[:, None])[:, 0]
        print(f"| {name}: {len(both)} patients; real logit later {interval(apart)} | | | | | |")
        found = {way: steps[:, -1] for way, steps in edits.ways(before, masks).items()}
        others = {"no edit": before.astype(np.float32), "opposite": found["to the opposite class"]}
        for way, last in found.items():
            cells = [interval(gain_towards_later(last, other, later)) for other in others.values()]
            cells += [
                interval(gain_in_features(edits, last, other, later)) for other in others.values()
            ]
            print(f"| | {way} | {' | '.join(cells)} |", flush=True)


def gain_in_features(
    edits: Edits, moved: NDArray, still: NDArray, later: NDArray
) -> NDArray[np.floating]:
    """As `gain_towards_later`, in classifier features, as a share of the unedited distance."""
    a, b, c = (edits.features(x) for x in (moved, still, later))
    before = np.linalg.norm(b - c, axis=1)
    return np.asarray((before - np.linalg.norm(a - c, axis=1)) / before)


def films(arguments: argparse.Namespace) -> None:
    """Filmstrips of a few, for eyes: above towards, below away from the outcome. They show
    patients: keep them where the images are."""
    from PIL import Image

    edits = Edits(arguments)
    held = json.loads((arguments.out / "held.json").read_text())
    for site in ("nih-large", "guangzhou-children"):
        images, masks, _ = read([e["image"] for e in held["edited"] if e["site"] == site][:4])
        strips = [edits.towards(images, masks, present=p)[:, ::2] for p in (True, False)]
        rows = [
            np.concatenate(list(steps), axis=-1)
            for both in zip(*strips, strict=True)
            for steps in both
        ]
        grey = ((np.concatenate(rows) + 1024) / 8).clip(0, 255).astype(np.uint8)
        Image.fromarray(grey).resize((grey.shape[1] * 2, grey.shape[0] * 2)).save(
            arguments.out / f"film-{site}.png"
        )


def main() -> None:
    """Run one stage."""
    torch.set_num_threads(1)
    show_progress()
    parser = argparse.ArgumentParser(description=__doc__)
    stages = {f.__name__: f for f in (cohorts, generator, classifier, measure, films)}
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=lambda f: Path(f).resolve(), help="for cohorts")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--images", type=int, default=10, help="edits of each")
    parser.add_argument("--strength", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=7.5)
    arguments = parser.parse_args()
    stages[arguments.stage](arguments)


if __name__ == "__main__":
    main()
