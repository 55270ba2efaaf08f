"""`fedrad simulate --engine flower`: Flower's simulation runtime, for many sites and for GPUs.

The apps, messages and checks are those of a deployed federation; Ray runs the sites side by side.
"""

import json
import logging
import math
import os
import re
from pathlib import Path

import torch

from fedrad.client.app import SITES_VARIABLE
from fedrad.client.settings import open_site
from fedrad.flower.processes import Flower, FlowerError, Settings, own_flower
from fedrad.server.federation.federation import ExperimentFailed
from fedrad.server.results.summary import Summary, read_summary

from .simulation import Simulation, save_simulation

log = logging.getLogger("fedrad.server")

GPU_BYTES = 16 * 2**30
"""GPU memory that one site is given: a ResNet-50 at 512 pixels, batches of 16, with room."""
WAIT_SECONDS = 10.0
"""Simulated nodes are registered before the ServerApp is loaded; a second look costs little."""
LAST_LINES = 15

_OURS = re.compile(r"fedrad (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)")


def run_flower(simulation: Simulation) -> Summary:
    """Run a checked simulation in Flower's simulation runtime. Returns the summary.

    Every process and file of Flower and Ray is gone when this returns or raises. Raises
    ExperimentFailed with the reason.
    """
    save_simulation(simulation, "flower")
    try:
        with own_flower({SITES_VARIABLE: json.dumps(simulation.nodes)}) as flower:
            flower.start_superlink("--simulation")
            run_config: Settings = {
                "experiment": simulation.text,
                "out": str(simulation.folder),
                "wait-seconds": WAIT_SECONDS,
                "resume": simulation.resume,
            }
            return follow(flower, run_config, simulation.folder, _resources(simulation))
    except FlowerError as error:
        raise ExperimentFailed(str(error)) from error


def follow(
    flower: Flower, run_config: Settings, folder: Path, simulation: Settings | None = None
) -> Summary:
    """Run an experiment in Flower, and show fedrad's lines of its log. Returns the summary; raises
    ExperimentFailed with the reason where it did not complete."""
    last: list[str] = []
    for line in flower.run(run_config, simulation):
        if ours := _OURS.fullmatch(line):
            log.log(logging.getLevelNamesMapping()[ours[1]], "%s", ours[2])
        last = [*last[1 - LAST_LINES :], line]
    if not (folder / "summary.json").is_file():
        raise ExperimentFailed("Flower's run ended early:\n" + "\n".join(last))
    summary = read_summary(folder)
    if summary.status != "completed":
        raise ExperimentFailed(summary.why or "the run was ended from outside")
    return summary


def _resources(simulation: Simulation) -> Settings:
    """How many sites run at once: as many as their threads fit the CPU cores, and GPU memory."""
    cores = os.cpu_count() or 1
    sites = [open_site(Path(node["folder"]), name=node["name"]) for node in simulation.nodes]
    threads = max(min(site.settings.threads or cores, cores) for site in sites)
    settings: dict[str, str | int | float] = {
        "num-supernodes": len(sites),
        "init-args-num-cpus": cores,
        "init-args-log-to-driver": False,
    }
    if gpus := torch.cuda.device_count():
        memory = min(torch.cuda.get_device_properties(g).total_memory for g in range(gpus))
        at_once = max(1, memory // GPU_BYTES)
        settings["init-args-num-gpus"] = gpus
        # A little less than the share, or rounding in Flower (32 bits) and Ray costs a place.
        settings["client-resources-num-gpus"] = math.floor(9_999 / at_once) / 10_000
        threads = max(1, min(threads, cores // (gpus * at_once)))
    settings["client-resources-num-cpus"] = threads
    return settings
