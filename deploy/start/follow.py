"""An experiment that runs in Flower's processes, followed by its log until it ends."""

import logging
from pathlib import Path

from fedrad.flower.log_lines import run_log_line
from fedrad.flower.processes import FlowerProcesses, FlowerSettings
from fedrad.server.federation.federation import ExperimentFailed
from fedrad.server.results.summary import Summary, read_summary

LAST_LINES = 15
"""Lines of Flower's log that are shown where a run ended early."""
log = logging.getLogger("fedrad.server")


def follow(
    flower: FlowerProcesses,
    run_config: FlowerSettings,
    folder: Path,
    simulation: FlowerSettings | None = None,
) -> Summary:
    """Run an experiment in Flower, and show fedrad's lines of its log.

    Parameters
    ----------
    flower
        With a SuperLink, its own or another.
    run_config
        Flower's configuration of the run, for fedrad's ServerApp.
    folder
        Where the experiment writes its results.
    simulation
        Flower's settings of a simulated federation; None: over real nodes.

    Returns
    -------
    The summary of the completed experiment.

    Raises
    ------
    ExperimentFailed
        With the reason, where it did not complete.
    """
    last: list[str] = []
    for line in flower.run(run_config, simulation):
        if of_fedrad := run_log_line(line):
            level, text = of_fedrad
            log.log(level, "%s", text)
        last = [*last[1 - LAST_LINES :], line]
    if not (folder / "summary.json").is_file():
        raise ExperimentFailed("Flower's run ended early:\n" + "\n".join(last))
    summary = read_summary(folder)
    if summary.status != "completed":
        raise ExperimentFailed(summary.why or "the run was ended from outside")
    return summary
