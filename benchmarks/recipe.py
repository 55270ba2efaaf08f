"""The cost of a site's recipe, compared with straightforward loops for the same recipe.

    python benchmarks/recipe.py --files FOLDER --size 224 --size 512 --threads 1

Same DICOM files, machine, network (ResNet-50), batches and number of steps. Two such loops:
"straightforward" decodes and augments at every use and runs the whole network with a graph at
every step, optimising the stage's blocks; "requires_grad" is the same with gradients turned off
for frozen parameters, so that PyTorch builds no graph there. Beside them `train_round` with fresh
draws, and with a pool of one view per image: cold (empty store) and warm (the same again). The
files are decoded into an array beforehand, once for 30 rounds: a thirtieth of that is counted.

Each measurement is a process of its own, so its peak memory is its own; the import of libraries and
the building of the network are in the peak and not in the time. Ratios are of processor time, as
wall time depends on other users of the machine; with one thread on an idle machine the two are the
same. "In all" weighs the seconds per step by the published rounds: 12 train the head, 4 from
layer4, 6 from layer3, 8 from layer2.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch

from fedrad.client.images import InputSettings, read_radiograph
from fedrad.models.activations import ActivationStore
from fedrad.models.augment import augment
from fedrad.models.augment.cutmix import cutmix
from fedrad.models.examples import Examples
from fedrad.models.network import ResNet
from fedrad.models.optimizer import masked_loss
from fedrad.models.schedule import Schedule, trainable_blocks
from fedrad.models.settings import ModelSettings, RecipeSettings
from fedrad.models.streams import Streams
from fedrad.models.training import balanced_order, train_round

ROUND_OF = {"probe": 0, "layer4": 12, "layer3": 16, "layer2": 22}
WEIGHT_OF = {"probe": 12, "layer4": 4, "layer3": 6, "layer2": 8}
WAYS = ("straightforward", "requires_grad", "fresh draws", "pool, cold", "pool, warm")
CPU = torch.device("cpu")


def read_image(file: Path, size: int) -> np.ndarray:
    """The picture of a file, (size, size)."""
    return read_radiograph(file.read_bytes(), InputSettings(size=size)).picture


def main() -> None:
    """Measure every way and stage in a process of its own, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--size", type=int, action="append", required=True)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cutmix", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=1, help="the fastest counts")
    parser.add_argument("--one", nargs=2, help="way and stage, measured in this process")
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments, *arguments.one)))
        return
    for size in arguments.size:
        with tempfile.TemporaryDirectory() as folder:
            show(arguments, size, Path(folder))


def show(arguments: argparse.Namespace, size: int, store: Path) -> None:
    """Print the table of one size in Markdown."""
    found: dict[str, dict[str, dict[str, float]]] = {way: {} for way in WAYS}
    for stage, repeat, way in product(ROUND_OF, range(arguments.repeats), WAYS):
        command = [
            sys.executable,
            __file__,
            "--files",
            str(arguments.files),
            "--size",
            str(size),
            "--images",
            str(arguments.images),
            "--batch",
            str(arguments.batch),
            "--threads",
            str(arguments.threads),
            "--cutmix",
            str(arguments.cutmix),
            "--store",
            str(store / f"{stage}-{repeat}"),
            "--one",
            way,
            stage,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        print(size, way, stage, result, file=sys.stderr, flush=True)
        best = found[way].get(stage, result)
        found[way][stage] = {key: min(value, best[key]) for key, value in result.items()}
    print(f"\n| {size} px: seconds per step | {' | '.join(ROUND_OF)} | in all | wall | peak GiB |")
    print("|" + " --- |" * (len(ROUND_OF) + 4))
    base = mean_over_published_rounds(found[WAYS[0]])
    for way in WAYS:
        steps = [found[way][stage]["seconds"] for stage in ROUND_OF]
        ratios = [
            f"{s:.4g} ({found[WAYS[0]][stage]['seconds'] / s:.3g}×)"
            for s, stage in zip(steps, ROUND_OF, strict=True)
        ]
        total, wall = (
            mean_over_published_rounds(found[way]),
            mean_over_published_rounds(found[way], "wall"),
        )
        peak = max(v["peak"] for v in found[way].values())
        ratios += [f"{total:.4g} ({base / total:.3g}×)", f"{wall:.4g}", f"{peak:.2f}"]
        print(f"| {way} | {' | '.join(ratios)} |")
    decoding = found["fresh draws"]["probe"]["decoding"]
    print(f"\nDecoding once: {decoding * 1e3:.0f} ms an image.")


def mean_over_published_rounds(
    stages: dict[str, dict[str, float]], figure: str = "seconds"
) -> float:
    """Mean seconds per step over the published rounds."""
    weighed = sum(WEIGHT_OF[stage] * stages[stage][figure] for stage in stages)
    return weighed / sum(WEIGHT_OF.values())


def measure(arguments: argparse.Namespace, way: str, stage: str) -> dict[str, float]:
    """Processor and wall seconds per step, peak memory in GiB, seconds to decode an image."""
    torch.set_num_threads(arguments.threads)
    (size,) = arguments.size
    files = sorted(arguments.files.glob("*.dcm"))[: arguments.images]
    labels = (np.arange(len(files)) % 2).astype(np.float32)[:, None]
    torch.manual_seed(0)
    network = ResNet(ModelSettings(weights="random", size=size), 1)
    recipe = RecipeSettings(
        batch_size=arguments.batch, cutmix=arguments.cutmix, views=int(way.startswith("pool"))
    )
    schedule, round_ = Schedule(recipe, 30), ROUND_OF[stage]
    read_image(files[0], 64)  # imports
    augment(torch.zeros(1, 1, 64, 64), recipe.augmentation, Streams(0))
    wall, started = time.perf_counter(), time.process_time()
    decoding = 0.0
    if way in ("straightforward", "requires_grad"):
        steps = straightforward(network, files, labels, schedule, round_, way == "requires_grad")
        seconds = time.process_time() - started
    else:
        examples = Examples(np.stack([read_image(file, size) for file in files]), labels)
        decoding = (time.process_time() - started) / len(files)
        store = ActivationStore(arguments.store, 2**36) if recipe.views else None
        wall, started = time.perf_counter(), time.process_time()
        steps = train_round(
            network, examples, schedule, round_, seed=1, device=CPU, store=store
        ).steps
        # Decoded once for 30 rounds: a thirtieth of it belongs to this one.
        seconds = time.process_time() - started + decoding * len(files) / 30
    wall = time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "seconds": seconds / steps,
        "wall": wall / steps,
        "peak": peak,
        "decoding": decoding,
    }


def straightforward(
    network: ResNet,
    files: list[Path],
    labels: np.ndarray,
    schedule: Schedule,
    round_: int,
    without_gradients: bool,
) -> int:
    """Train with the straightforward loop. Returns the number of steps."""
    recipe, blocks = schedule.recipe, trainable_blocks(schedule.stage(round_))
    network.train_blocks(blocks, batchnorm_moves=True)
    if not without_gradients:
        network.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [p for block in blocks for m in network.block_modules(block) for p in m.parameters()]
    )
    streams = Streams(1)
    steps = -(-len(files) // recipe.batch_size)
    order = balanced_order(labels, steps * recipe.batch_size, torch.Generator().manual_seed(1))
    for step in range(steps):
        rows = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        pictures = np.stack([read_image(files[row], network.settings.size) for row in rows])
        images = torch.from_numpy(pictures.astype(np.float32))[:, None]
        images, target = (
            augment(images, recipe.augmentation, streams),
            torch.from_numpy(labels[rows]),
        )
        if torch.rand((), generator=streams.generator("cutmix")) < recipe.cutmix * (
            not schedule.in_probe(round_)
        ):
            mixed = cutmix(images, target, streams.generator("cutmix"))
            logits = network(mixed.images)
            loss = mixed.share * masked_loss(logits, mixed.labels)
            loss = loss + (1 - mixed.share) * masked_loss(logits, mixed.other_labels)
        else:
            loss = masked_loss(network(images), target)
        network.zero_grad()
        loss.backward()
        optimizer.step()
    return steps


if __name__ == "__main__":
    main()
