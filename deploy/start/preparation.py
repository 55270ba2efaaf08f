"""Checks before an experiment starts: its file, its base weights, the folder for results."""

from pathlib import Path

from fedrad.deploy.refused import ArgumentFault, Refused
from fedrad.exchange.experiment import (
    Experiment,
    ExperimentError,
    parse_experiment,
    read_experiment,
)
from fedrad.exchange.lineage import read_lineage
from fedrad.exchange.required_release import release_fault
from fedrad.models.weight_files import WeightsError
from fedrad.models.weight_folders import add_weight_folder
from fedrad.system.folders import make_folder
from fedrad.system.private import privacy_fault


def experiment_text(file: Path) -> str:
    """The text of an experiment file. Raises Refused if the file cannot be used."""
    try:
        return read_experiment(file)[1]
    except ExperimentError as error:
        raise Refused(str(error)) from error


def given_experiment(text: str, file: Path, out: Path) -> tuple[Experiment, list[str]]:
    """Check whether an experiment can start.

    Parameters
    ----------
    text
        The experiment, which may differ from the file, for example in the number of the fold.
    file
        File from which the text was made. It is not read, but named in messages, and base weights
        are also searched beside it.
    out
        Folder for the results.

    Returns
    -------
    tuple[Experiment, list[str]]
        The experiment, and a sentence for each fault: base weights that cannot be used, a folder
        that is in use, or another release than the one that is required.

    Raises
    ------
    Refused
        If the text is no experiment.
    """
    try:
        experiment = parse_experiment(text, str(file))
    except ExperimentError as error:
        raise Refused(str(error)) from error
    add_weight_folder(file.parent)
    faults = list[str]()
    if (out / "experiment.toml").exists():
        advice = f"give another folder, or `fedrad resume {out}`"
        faults.append(ArgumentFault(f"out {out}: holds an experiment already; {advice}"))
    elif out.is_file():
        faults.append(ArgumentFault(f"out {out}: is a file; give a folder"))
    elif (fault := privacy_fault(out)) is not None:
        faults.append(ArgumentFault(f"out {fault}"))
    if (fault := release_fault(experiment.federation.release)) is not None:
        faults.append(fault)
    if (fault := weights_fault(experiment)) is not None:
        faults.append(fault)
    return experiment, faults


def weights_fault(experiment: Experiment) -> str | None:
    """Why an experiment's base weights cannot be used here; None if they can."""
    try:
        base = experiment.task.load_start(experiment)
        read_lineage(base.metadata)
    except (ExperimentError, WeightsError) as error:
        return str(error)
    return None


def check_privacy(folder: Path) -> None:
    """Raise Refused if other users of this machine can reach into a folder that exists."""
    if fault := privacy_fault(folder):
        raise Refused(fault)


def prepare_folder(out: Path, faults: list[str]) -> None:
    """Make the folder for the results. Raises Refused if that fails or `faults` is not empty."""
    try:
        make_folder(out)
    except OSError as error:
        fault = f"out {out}: cannot be made ({error.strerror}); give another folder"
        faults = [*faults, ArgumentFault(fault)]
    if faults:
        raise Refused(*faults)
