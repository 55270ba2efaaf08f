"""`fedrad simulate --engine flower`: Flower's simulation runtime, for many sites and for GPUs.

The apps, messages and checks are those of a deployed federation; Ray runs the sites in parallel.
"""

import json
import math
from pathlib import Path

import torch

from fedrad.client.app import SITES_VARIABLE
from fedrad.client.settings import open_site
from fedrad.deploy.start.follow import follow
from fedrad.flower.control import FlowerError, FlowerSettings
from fedrad.flower.processes import own_flower_processes
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.server.results.summary import Summary
from fedrad.system.resources import usable_cores

from .simulation import Simulation, save_simulation

GPU_BYTES = 16 * 2**30
"""GPU memory reserved for one site: enough for a ResNet-50 at 512 pixels and batches of 16."""
WAIT_SECONDS = 10.0
"""Short: simulated nodes are registered before the ServerApp is loaded."""


def run_flower(simulation: Simulation) -> Summary:
    """Run a checked simulation in Flower's simulation runtime. Returns the summary.

    All processes and files of Flower and Ray are removed, also after an error. Raises
    ExperimentFailed with the reason.
    """
    save_simulation(simulation, "flower")
    try:
        with own_flower_processes({SITES_VARIABLE: json.dumps(simulation.nodes)}) as flower:
            flower.start_superlink("--simulation")
            run_config: FlowerSettings = {
                "experiment": simulation.text,
                "out": str(simulation.folder),
                "wait-seconds": WAIT_SECONDS,
                "resume": simulation.resume,
            }
            log = flower.run(run_config, _resources(simulation))
            return follow(log, simulation.folder)
    except FlowerError as error:
        raise ExperimentFailed(str(error)) from error


def _resources(simulation: Simulation) -> FlowerSettings:
    """Settings of the runtime: as many sites run in parallel as CPU cores and GPU memory allow."""
    cores = usable_cores()
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
        # A little less than the share: rounding in Flower (32 bits) and Ray would exclude one site.
        settings["client-resources-num-gpus"] = math.floor(9_999 / at_once) / 10_000
        threads = max(1, min(threads, cores // (gpus * at_once)))
    settings["client-resources-num-cpus"] = threads
    return settings
