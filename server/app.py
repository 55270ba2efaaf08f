"""The Flower ServerApp: reads the run configuration and calls `run_experiment`.

Keys of the run configuration:

    experiment    text of the experiment file
    out           absolute path of the results folder at the coordinator
    wait-seconds  how long to wait for sites; negative: the patience of the experiment
    resume        whether to continue from the checkpoint in the folder
    members       file that gives the site of each node; empty: a site has the name that it gives
"""

from fedrad.system.no_telemetry import disable_usage_reports

disable_usage_reports()

import logging
import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedrad.flower.log_lines import run_log_formatter

from .experiment import run_experiment

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one experiment."""
    log = logging.getLogger("fedrad.server")
    if not log.hasHandlers():
        handler = logging.StreamHandler(sys.stdout)  # `flwr log` shows it
        handler.setFormatter(run_log_formatter())
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    text = str(context.run_config["experiment"])
    out = Path(str(context.run_config["out"]))
    if not out.is_absolute():
        raise ValueError(f"run configuration: out = {str(out)!r} must be an absolute folder")
    wait = float(context.run_config.get("wait-seconds", -1.0))
    members = str(context.run_config.get("members", ""))
    run_experiment(
        grid,
        text,
        out,
        wait_seconds=None if wait < 0 else wait,
        resume=bool(context.run_config.get("resume", False)),
        members=Path(members) if members else None,
    )
