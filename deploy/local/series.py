"""Runs several experiments from one file on one machine; finished ones are not run again."""

from pathlib import Path

from fedrad.deploy.refused import Refused
from fedrad.exchange.experiment import parse_experiment, read_experiment
from fedrad.server.results.summary import Summary, read_summary

from .simulation import load_simulation, prepare_text, simulate


def run_or_resume(
    text: str, experiment_file: Path, sites: dict[str, Path], folder: Path, state: Path | None
) -> Summary:
    """Run an experiment, resume it, or read its summary if it was completed in the folder before.

    Parameters
    ----------
    text
        The experiment, which may differ from the file.
    experiment_file
        File from which the text was made. It is not read; base weights are searched beside it.
    sites
        Name -> folder of each site.
    folder
        Folder for the results.
    state
        Folder for the sites' state; None for one in `folder`.

    Returns
    -------
    Summary
        The summary of the completed experiment.

    Raises
    ------
    Refused
        If the experiment cannot run, or the folder holds an experiment with other settings.
    """
    begun = folder / "experiment.toml"
    if begun.is_file() and read_experiment(begun)[0].identity != parse_experiment(text).identity:
        raise Refused(
            f"{folder}: was begun with other settings than {experiment_file} has now; give another "
            "--out, or set them back"
        )
    if (summary := finished(folder)) is not None:
        return summary
    if (earlier := load_simulation(folder)) is not None:
        return simulate(earlier[0])
    return simulate(prepare_text(text, experiment_file, sites, folder, state=state))


def finished(folder: Path) -> Summary | None:
    """The summary of an experiment that was completed in a folder; None without one."""
    if not (folder / "summary.json").is_file():
        return None
    summary = read_summary(folder)
    return summary if summary.status == "completed" else None
