"""`fedrad run`: an experiment over the hospitals that are connected to a SuperLink."""

from pathlib import Path

from pydantic import BaseModel

from fedrad.deploy.refused import Refused
from fedrad.flower.processes import (
    FlowerError,
    FlowerSettings,
    SuperLinkConnection,
    own_flower_processes,
)
from fedrad.models.weight_folders import add_weight_folder
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.server.results.summary import Summary
from fedrad.system.files import JsonFile, UnreadableFileError

from .follow import follow
from .notes import SUPERLINK
from .preparation import check_privacy, experiment_text, given_experiment, prepare_folder


class DeploymentNote(BaseModel):
    """Content of `superlink.json`: what a resume needs besides the experiment.

    `weights`: folder in which base weights are searched. The others: see `SuperLinkConnection`.
    """

    address: str
    root_certificates: Path | None
    members: Path | None = None
    weights: Path


def run_deployed(experiment_file: Path, out: Path, connection: SuperLinkConnection) -> Summary:
    """Check an experiment and run it over the hospitals of a SuperLink.

    Parameters
    ----------
    experiment_file
        The experiment; base weights are also searched beside it.
    out
        New folder for the results.
    connection
        A SuperLink on this machine.

    Returns
    -------
    Summary
        The results.

    Raises
    ------
    Refused
        If the experiment cannot start; nothing has been started then.
    ExperimentFailed
        If it cannot continue.
    """
    text = experiment_text(experiment_file)
    _, faults = given_experiment(text, experiment_file, out)
    if connection.root_certificates and not connection.root_certificates.is_file():
        faults.append(f"--root-certificates {connection.root_certificates}: no such file")
    prepare_folder(out, faults)
    certificates, members = connection.root_certificates, connection.members
    note = DeploymentNote(
        address=connection.address,
        root_certificates=certificates.resolve() if certificates else None,
        members=members.resolve() if members else None,
        weights=experiment_file.parent.resolve(),
    )
    _note_of(out).write(note)
    return _run(text, out, connection, resume=False)


def resume_deployed(folder: Path) -> Summary:
    """Continue an experiment of `run_deployed`. Raises Refused, ExperimentFailed."""
    try:
        note = _note_of(folder).read()
    except UnreadableFileError as error:
        raise Refused(str(error)) from error
    if note is None:
        raise Refused(f"{folder}: holds no experiment of `fedrad run`")
    check_privacy(folder)
    add_weight_folder(note.weights)
    connection = SuperLinkConnection(note.address, note.root_certificates, note.members)
    file = folder / "experiment.toml"
    if not file.is_file():
        raise Refused(f"{folder}: the experiment had not begun; start it again with `fedrad run`")
    return _run(file.read_text(encoding="utf-8"), folder, connection, resume=True)


def _note_of(folder: Path) -> JsonFile[DeploymentNote]:
    return JsonFile(folder / SUPERLINK, DeploymentNote)


def _run(text: str, out: Path, connection: SuperLinkConnection, *, resume: bool) -> Summary:
    try:
        with own_flower_processes({}, connection) as flower:
            run_config: FlowerSettings = {
                "experiment": text,
                "out": str(out.resolve()),
                "resume": resume,
                "members": str(connection.members or ""),
            }
            return follow(flower, run_config, out)
    except FlowerError as error:
        raise ExperimentFailed(str(error)) from error
