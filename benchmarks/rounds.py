"""The cost of a round in seconds, bytes and memory, and the effect of encodings on the AUROC.

    python benchmarks/rounds.py idle               stock Flower beside fedrad, real processes
    python benchmarks/rounds.py bytes              the published recipe, by encoding
    python benchmarks/rounds.py memory             ServerApp and SuperLink with 2, 8, 32 idle sites
    python benchmarks/rounds.py many               100 simulated sites
    python benchmarks/rounds.py encodings EXPERIMENT.toml --site NAME=FOLDER … --out DIR

All but `encodings` make their own sites. Prints Markdown.
"""

import argparse
import csv
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import tomlkit
from PIL import Image

from fedrad.client.node.service import NODE_COMMAND
from fedrad.deploy.local.simulation import prepare, simulate
from fedrad.exchange.encoding import BYTES_PER_VALUE
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.update import flatten, pack
from fedrad.flower.control import FlowerError
from fedrad.flower.process_tree import processes_of
from fedrad.flower.processes import FlowerProcesses, own_flower_processes
from fedrad.models.network import stage_tensors
from fedrad.models.weights import load_base
from fedrad.server.results.summary import read_summary

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from support.stock_flower import STOCK_SUPERNODE, StockFlower

RESNET50 = """
name = "idle"
outcomes = ["label"]
[model]
backbone = "resnet50"
weights = "random"
size = 32
[recipe]
preset = "{preset}"
batch_size = 16
[federation]
rounds = {rounds}
quorum = 2
encoding = "{encoding}"
[evaluation]
test = 0.3
validation = 0.3
minimum_units = 3
local_baseline = false
"""
PROGRAMS = {"ServerApp": "fedrad.flower.server_executor", "SuperLink": "fedrad.flower.superlink"}
STATE_DICT_BYTES = 94_370_000
"""ResNet-50, one channel, 18 outputs, float32; stock Flower sends it three times a round."""


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["idle", "bytes", "memory", "many", "encodings"])
    parser.add_argument("experiment", type=Path, nargs="?")
    parser.add_argument("--site", action="append", default=[])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sites", type=int, nargs="*", default=[2, 8, 32])
    arguments = parser.parse_args()
    if arguments.what == "idle":
        idle(arguments.rounds)
    elif arguments.what == "bytes":
        wire()
    elif arguments.what == "memory":
        memory(arguments.sites, arguments.rounds)
    elif arguments.what == "many":
        many(arguments.rounds)
    else:
        sites = {n: Path(f) for n, _, f in (s.partition("=") for s in arguments.site)}
        encodings(arguments.experiment, sites, arguments.out, arguments.seeds)


# Seconds of an idle round


def idle(rounds: int) -> None:
    """Two sites, real SuperLink and SuperNodes; fedrad's train one step on a handful of images."""
    with folder() as root:
        sites = {name: small_site(root / name, seed) for seed, name in enumerate("ab")}
        print("| app | seconds a round (median) | each |\n| --- | ---: | --- |")
        ways = [
            ("stock", "", "full"),
            ("fedrad", "float32", "full"),
            ("fedrad", "int8", "full"),
            ("fedrad, head only", "float32", "probe"),
        ]
        for app, encoding, preset in ways:
            kind = StockFlower if app == "stock" else FlowerProcesses
            with own_flower_processes({"OMP_NUM_THREADS": "1"}, kind) as flower:
                flower.start_superlink()
                for name, site in sites.items():
                    state = root / f"state-{encoding}-{preset}" / name
                    node = {"folder": str(site), "name": name, "state": str(state)}
                    command = STOCK_SUPERNODE if app == "stock" else NODE_COMMAND
                    flower.start_supernode(name, node, command)
                if isinstance(flower, StockFlower):
                    times = [
                        float(found[1])
                        for line in flower.run_bundle({"rounds": rounds}, HERE / "stock")
                        if (found := re.search(r"stock round \d+ at ([\d.]+)", line))
                    ]
                else:
                    text = RESNET50.format(rounds=rounds, encoding=encoding, preset=preset)
                    times = []
                    out = root / f"out-{encoding}-{preset}"
                    for line in flower.run({"experiment": text, "out": str(out)}):
                        if re.search(r"fedrad INFO (Round \d+ of|Thresholds)", line):
                            times.append(time.time())
            each = np.diff(times)
            shown = " ".join(f"{seconds:.1f}" for seconds in each)
            label = f"{app}, {encoding}" if encoding else app
            print(f"| {label} | {statistics.median(each[1:]):.1f} | {shown} |", flush=True)


# Bytes of the published recipe


def wire() -> None:
    """30 rounds of the published recipe (a third of them the probe), ResNet-50, one site, both
    ways: the packed arrays themselves, of random steps."""
    text = RESNET50.format(rounds=30, encoding="float32", preset="probe+progressive+cutmix")
    experiment = parse_experiment(text)
    base = load_base(experiment.model, 18, seed=0)
    tensors = {name: value.numpy() for name, value in base.network.state_dict().items()}
    rng = np.random.default_rng(0)
    stock = 3 * 30 * STATE_DICT_BYTES
    print(f"stock: {stock / 1e6:,.0f} MB\n")
    print("| encoding | MB a site | times fewer |\n| --- | ---: | ---: |")
    sizes: dict[tuple[str, str], int] = {}
    for encoding in BYTES_PER_VALUE:
        total = 0
        for number in range(30):
            stage = experiment.schedule.stage(number)
            if (encoding, stage) not in sizes:
                names = stage_tensors(base.network, stage, experiment.recipe)
                flat = flatten(tensors, names)
                moved = {n: t + rng.normal(0, 1e-3, t.shape) for n, t in tensors.items()}
                manifest, packed = pack(
                    {n: moved[n].astype(np.float32) for n in names},
                    names,
                    round_=number,
                    stage=stage,
                    base_sha256=base.digest,
                    encoding=encoding,
                    reference=None if encoding == "float32" else flat,
                )
                sizes[encoding, stage] = packed.nbytes + len(manifest.model_dump_json())
            total += 2 * sizes[encoding, stage]
        print(f"| {encoding} | {total / 1e6:,.0f} | {stock / total:.1f} |")


# Memory


def memory(counts: list[int], rounds: int) -> None:
    """Peak resident memory of the ServerApp and of the SuperLink, sites without PyTorch."""
    text = RESNET50.format(rounds=rounds, encoding="float32", preset="full")
    experiment = parse_experiment(text)
    digest = load_base(experiment.model, 1, seed=experiment.seed).digest
    print("| sites | ServerApp, MiB | SuperLink, MiB | seconds a round |")
    print("| ---: | ---: | ---: | ---: |")
    for count in counts:
        with (
            folder() as root,
            own_flower_processes({"OMP_NUM_THREADS": "1"}) as flower,
            ExitStack() as stack,
        ):
            flower.start_superlink()
            nodes = [sys.executable, HERE / "idle" / "nodes.py", flower.socket, str(count), digest]
            stack.callback(subprocess.Popen(nodes).kill)
            named = ", ".join(f'"s{n:02}"' for n in range(count))
            full = text.replace("quorum = 2", f"quorum = {count}\nsites = [{named}]")
            out = root / "out"
            config = {"experiment": full, "out": str(out), "wait-seconds": 600.0}
            peaks: dict[str, int] = {}
            with suppress(FlowerError):  # it is stopped: there is nothing to score
                for line in flower.run(config):
                    for name, peak in peak_memory(flower).items():
                        peaks[name] = max(peak, peaks.get(name, 0))
                    if "Thresholds" in line or "no figures" in line:
                        (out / "checkpoint" / "stop").touch()
            seconds = statistics.median(r.seconds for r in read_summary(out).rounds)
        server_app, superlink = peaks["ServerApp"], peaks["SuperLink"]
        print(f"| {count} | {server_app} | {superlink} | {seconds:.0f} |", flush=True)


def peak_memory(flower: FlowerProcesses) -> dict[str, int]:
    """MiB at the highest so far. The ServerApp is a fork of the executor, and the larger one."""
    found: dict[str, int] = {}
    for pid in processes_of(flower.folder):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        for name, module in PROGRAMS.items():
            if module in command and (peak := re.search(r"VmHWM:\s+(\d+) kB", status)):
                found[name] = max(found.get(name, 0), int(peak[1]) // 1024)
    return found


# Many sites


def many(rounds: int, sites: int = 100) -> None:
    """Seconds per round of 100 sites in one process, a narrow ResNet-18 on 32 pixels."""
    with folder() as root:
        named = {f"s{n:03}": small_site(root / f"s{n:03}", n, minimum=1) for n in range(sites)}
        text = RESNET50.format(rounds=rounds, encoding="float32", preset="full")
        file = root / "experiment.toml"
        file.write_text(text.replace('"resnet50"', '"resnet18"\nwidth = 0.125'))
        summary = simulate(prepare(file, named, root / "out"))
        each = [r.seconds for r in summary.rounds]
        print(f"{sites} sites: {statistics.median(each):.1f} s a round; each: {np.round(each, 1)}")


# What encodings do to the AUROC


def encodings(experiment: Path, sites: dict[str, Path], out: Path, seeds: int) -> None:
    """Within-site AUROC of the global model by encoding and seed, as differences to float32 of
    the same seed, with a 95 % interval over seeds (Student's t)."""
    from scipy import stats

    within: dict[str, list[float]] = {}
    for encoding in BYTES_PER_VALUE:
        for seed in range(seeds):
            run = out / f"{encoding}-{seed}"
            if not (run / "summary.json").is_file():
                document = tomlkit.parse(experiment.read_text("utf-8"))
                document["seed"] = seed
                document["federation"]["encoding"] = encoding
                document["evaluation"]["local_baseline"] = False
                file = out / f"{encoding}-{seed}.toml"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(tomlkit.dumps(document), encoding="utf-8")
                simulate(prepare(file, sites, run, state=out / "state"))
            summary = read_summary(run)
            (overall,) = [o for o in summary.overall if o.model == "global"]
            within.setdefault(encoding, []).append(overall.within or np.nan)
            print(f"{encoding}, seed {seed}: within-site AUROC {overall.within:.4f}", flush=True)
    print("\n| encoding | within-site AUROC | difference to float32 [95 %] |\n| --- | --- | --- |")
    for encoding, values in within.items():
        shown = " ".join(f"{v:.3f}" for v in values)
        difference = np.array(values) - within["float32"]
        half = stats.t.ppf(0.975, seeds - 1) * difference.std(ddof=1) / seeds**0.5
        mean = difference.mean()
        print(f"| {encoding} | {shown} | {mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}] |")


# Parts of these


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="rounds-") as name:
        yield Path(name)


def small_site(folder: Path, seed: int, *, minimum: int = 3) -> Path:
    """24 patients with one small picture each."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    with (folder / "cohort.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "patient_id", "label"])
        for number in range(24):
            name = f"images/{number:02}.png"
            pixels = rng.normal(90, 25, (40, 40)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name)
            table.writerow([name, f"p{number}", number % 2])
    (folder / "site.toml").write_text(
        f'name = "{folder.name}"\nthreads = 1\n[policy]\nminimum_units = {minimum}\n'
    )
    return folder


if __name__ == "__main__":
    main()
