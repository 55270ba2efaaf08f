"""Running an experiment in Flower's processes, and showing its log until it ends."""

import logging
from pathlib import Path

from fedrad.flower.log_lines import run_log_line
from fedrad.flower.processes import FlowerProcesses, FlowerSettings
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.server.results.summary import Summary, read_summary

LAST_LINES = 15
"""Number of lines of Flower's log that are shown if a run ended early."""
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
        Processes with a SuperLink.
    run_config
        Flower's configuration of the run, for fedrad's ServerApp.
    folder
        Folder for the results.
    simulation
        Flower's settings of a simulated federation; None: over real nodes.

    Returns
    -------
    Summary
        Of the completed experiment.

    Raises
    ------
    ExperimentFailed
        If the experiment did not complete; the text gives the reason.
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
