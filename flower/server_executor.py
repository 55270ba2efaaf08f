"""The process in whose forks the coordinator's part of runs works: a ServerApp, or a simulation.

    python -m fedrad.flower.server_executor --parent PID --socket PATH [--simulation]

A bundle is checked before it is unpacked, by the same function as at a site, and only the fedrad
that is installed here runs. Packages are never installed. Tasks of other kinds that Flower knows
(agents, models, connectors) are not taken.
"""

from fedrad.system.no_telemetry import disable_telemetry

disable_telemetry()

import argparse
import importlib
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from queue import Queue

from fedrad.system.private import make_private
from fedrad.system.process_family import end_with_parent

from .bundles import BUNDLE, check_bundle
from .internals import (
    APP_DIR,
    TaskType,
    get_flwr_home,
    mirror_output_to_queue,
    replace,
    run_serverapp,
)
from .local_socket import LOCAL, use_socket
from .task_loop import TaskLoop


def main() -> None:
    """Work on the tasks of a SuperLink until SIGTERM. Raises FlowerMovedError."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--simulation", action="store_true")
    given = parser.parse_args()
    end_with_parent(given.parent)
    use_socket(given.socket)
    # Flower takes a folder of the right name as it is: none is left from a bundle before the check
    shutil.rmtree(get_flwr_home() / APP_DIR, ignore_errors=True)
    apps = tomllib.loads(BUNDLE.read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["components"]
    importlib.import_module(apps["serverapp"].partition(":")[0])  # once, for all runs
    if given.simulation:
        from .internals import run_simulation_process  # imports Ray

        _check_bundles_of("run_simulation_process")
        TaskLoop(TaskType.SIMULATION, _task(run_simulation_process)).run()
    else:
        _check_bundles_of("run_serverapp")
        TaskLoop(TaskType.SERVER_APP, _task(run_serverapp)).run()


def _task(function: Callable[..., None]) -> Callable[[str], None]:
    """A function of Flower that works on a task and ends its process, as a function of the key."""

    def work(token: str) -> None:
        output: Queue[str | None] = Queue()
        mirror_output_to_queue(output)
        function(
            runtime_api_address=LOCAL,
            log_queue=output,
            token=token,
            insecure=True,
            runtime_dependency_install=False,
        )

    return work


def _check_bundles_of(part: str) -> None:
    """Let a function of Flower check each bundle before it is unpacked."""

    def install_approved(content: bytes, *, skip_prompt: bool) -> Path:
        check_bundle(content)
        path: Path = install(content, skip_prompt=skip_prompt)
        return path

    install = replace(part, "install_from_fab", install_approved)


if __name__ == "__main__":
    make_private()
    main()
