"""The cost, for a round, of mutual authentication between hospitals and coordinator.

    OMP_NUM_THREADS=1 python benchmarks/deployment.py [--rounds 4]

Two sites on loopback with a ResNet-50 and almost no training, alternately over a SuperLink without
TLS or keys and over `fedrad serve` with sites that joined it. Then the costs within a site: an
entry of the ledger, and the check of a bundle. Prints Markdown.
"""

import argparse
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rounds import RESNET50, small_site

from fedrad.client.node.service import NODE_COMMAND
from fedrad.client.policy.ledger import Ledger
from fedrad.client.policy.membership import join_federation
from fedrad.client.settings import open_site
from fedrad.deploy.coordinator.folder import Coordinator
from fedrad.exchange.messages import Readiness
from fedrad.flower.bundles import BUNDLE, check_bundle
from fedrad.flower.processes import own_flower_processes

BIN = Path(sys.executable).parent
WAYS = [("head only", "float32", "probe"), ("all blocks, float32", "float32", "full")]


def main() -> None:
    """Measure both, and what a site does by itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    print("| ResNet-50 | SuperLink | seconds a round (median) | each |\n| --- | --- | ---: | --- |")
    with tempfile.TemporaryDirectory(prefix="deployment-") as name:
        root = Path(name)
        sites = {name: small_site(root / name, seed) for seed, name in enumerate("ab")}
        for site in sites.values():
            with (site / "site.toml").open("a") as file:
                file.write('approval = false\ncolumns = ["label"]\n')
        for label, encoding, preset in WAYS:
            text = RESNET50.format(rounds=rounds, encoding=encoding, preset=preset)
            for way in ("plain", "serve"):
                here = root / f"{way}-{preset}"
                here.mkdir()
                run = (
                    rounds_without_authentication if way == "plain" else rounds_with_authentication
                )
                each = np.diff(list(run(here, sites, text)))
                shown = " ".join(f"{seconds:.1f}" for seconds in each)
                middle = statistics.median(each[1:])
                print(f"| {label} | {way} | {middle:.1f} | {shown} |", flush=True)
        measure_site_costs(root)


def rounds_without_authentication(here: Path, sites: dict[str, Path], text: str) -> Iterable[float]:
    """Times of the rounds without TLS and keys."""
    with own_flower_processes({"OMP_NUM_THREADS": "1"}) as flower:
        flower.start_superlink("--database", str(here / "superlink.db"))
        for name, site in sites.items():
            node = {"folder": str(site), "name": name, "state": str(here / name)}
            flower.start_supernode(name, node, NODE_COMMAND)
        yield from round_times(flower.run({"experiment": text, "out": str(here / "out")}))


def rounds_with_authentication(here: Path, sites: dict[str, Path], text: str) -> Iterable[float]:
    """Times of the rounds over `fedrad serve`."""
    coordinator = Coordinator(here / "coordinator")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    coordinator.set_up(f"localhost:{port}", listen="127.0.0.1", names=[], own=None)
    for name, folder in sites.items():
        invitation = coordinator.invite(name, here / f"{name}.invitation", days=1)
        join_federation(open_site(folder, state=here / name), invitation, here / f"{name}.request")
        coordinator.admit(coordinator.read_request(here / f"{name}.request"))
    folder = str(coordinator.folder)
    with background_command("fedrad", "serve", "--coordinator", folder):
        time.sleep(15)
        nodes = [
            ("fedrad-site", "start", str(site), "--state", str(here / name))
            for name, site in sites.items()
        ]
        with background_command(*nodes[0]), background_command(*nodes[1]):
            (here / "experiment.toml").write_text(text)
            running = subprocess.Popen(
                [
                    BIN / "fedrad",
                    "run",
                    here / "experiment.toml",
                    "--out",
                    here / "out",
                    "--coordinator",
                    folder,
                ],
                stderr=subprocess.PIPE,
                text=True,
                stdout=subprocess.DEVNULL,
            )
            assert running.stderr is not None
            yield from round_times(running.stderr)


def round_times(lines: Iterable[str]) -> Iterable[float]:
    """When each round began, and the last one ended."""
    for line in lines:
        if re.search(r"Round \d+ of|Thresholds and", line):
            yield time.time()


@contextmanager
def background_command(*command: str):
    """A command of fedrad in the background, ended at the end."""
    process = subprocess.Popen(
        [BIN / command[0], *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def measure_site_costs(root: Path) -> None:
    """Milliseconds of a ledger's entry, with a thousand before it, and of a bundle's check."""
    from flwr.cli.build import build_fab_from_disk

    project = root / "bundle"
    project.mkdir()
    (project / BUNDLE.name).write_bytes(BUNDLE.read_bytes())
    bundle = build_fab_from_disk(project)
    ledger = Ledger(root / "ledger.jsonl")
    message = Readiness(
        site="a",
        fedrad="0.1.0",
        flwr="1",
        torch="2",
        device="cpu",
        threads=1,
        base_sha256="0" * 64,
        trains=True,
        units={},
        set_aside=0,
    )
    for _ in range(1000):
        ledger.record("experiment", message)
    print()
    for what, do in (
        ("an entry of the ledger", lambda: ledger.record("experiment", message)),
        ("the check of a bundle", lambda: check_bundle(bundle)),
    ):
        began = time.perf_counter()
        for _ in range(50):
            do()
        print(f"{what}: {(time.perf_counter() - began) / 50 * 1000:.1f} ms")


if __name__ == "__main__":
    main()
