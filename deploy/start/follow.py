"""Showing the log of an experiment that runs in Flower's processes, until it ends."""

import logging
from collections.abc import Iterable
from pathlib import Path

from fedrad.flower.log_lines import run_log_line
from fedrad.server.federation.failure import ExperimentFailed, ExperimentStopped
from fedrad.server.results.summary import Summary, read_summary

LAST_LINES = 15
"""Number of lines of Flower's log that are shown if a run ended early."""
log = logging.getLogger("fedrad.server")


def follow(lines: Iterable[str], folder: Path) -> Summary:
    """Show fedrad's lines of the log of an experiment, until it ends.

    Parameters
    ----------
    lines
        The log of the run, as it comes.
    folder
        Folder for the results.

    Returns
    -------
    Summary
        Of the completed experiment.

    Raises
    ------
    ExperimentFailed
        If the experiment did not complete; the text gives the reason. ExperimentStopped if the
        coordinator stopped it.
    """
    last: list[str] = []
    for line in lines:
        if of_fedrad := run_log_line(line):
            level, text = of_fedrad
            log.log(level, "%s", text)
        last = [*last[1 - LAST_LINES :], line]
    if not (folder / "summary.json").is_file():
        raise ExperimentFailed("Flower's run ended early:\n" + "\n".join(last))
    summary = read_summary(folder)
    if summary.status == "stopped":
        raise ExperimentStopped(f"The experiment was stopped; `fedrad resume {folder}` goes on")
    if summary.status != "completed":
        raise ExperimentFailed(summary.why or "the run was ended from outside")
    return summary
