"""`fedrad run`: an experiment over the hospitals that are connected to the coordinator."""

from pathlib import Path

from pydantic import BaseModel

from fedrad.deploy.refused import Refused
from fedrad.flower.control import Control, FlowerError, FlowerSettings
from fedrad.models.weight_folders import add_weight_folder
from fedrad.server.federation.failure import ExperimentFailed
from fedrad.server.results.summary import Summary
from fedrad.system.files import JsonFile, UnreadableFileError
from fedrad.system.ports import listens_at

from .follow import follow
from .notes import SUPERLINK
from .preparation import check_privacy, experiment_text, given_experiment, prepare_folder


class DeploymentNote(BaseModel):
    """Content of `superlink.json`: what a resume needs besides the experiment.

    Attributes
    ----------
    socket
        The SuperLink's socket. None: an older file.
    members
        File with the list of members. None: an older experiment, over a SuperLink that `fedrad
        serve` did not run; such a one can no longer be used.
    weights
        Folder in which base weights are searched.
    """

    socket: Path | None = None
    members: Path | None = None
    weights: Path


def run_deployed(experiment_file: Path, out: Path, socket: Path, members: Path) -> Summary:
    """Check an experiment and run it over the hospitals of a coordinator.

    Parameters
    ----------
    experiment_file
        The experiment; base weights are also searched beside it.
    out
        New folder for the results.
    socket
        The socket of the coordinator's SuperLink.
    members
        The coordinator's list of members.

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
    if (fault := _not_serving(socket)) is not None:
        faults.append(fault)
    prepare_folder(out, faults)
    note = DeploymentNote(
        socket=socket.resolve(),
        members=members.resolve(),
        weights=experiment_file.parent.resolve(),
    )
    _note_of(out).write(note)
    return _run(text, out, note, resume=False)


def resume_deployed(folder: Path) -> Summary:
    """Continue an experiment of `run_deployed`. Raises Refused, ExperimentFailed."""
    try:
        note = _note_of(folder).read()
    except UnreadableFileError as error:
        raise Refused(str(error)) from error
    if note is None:
        raise Refused(f"{folder}: holds no experiment of `fedrad run`")
    if note.members is None:
        raise Refused(
            f"{folder}: ran over a SuperLink that `fedrad serve` did not run, which is no longer "
            "possible: everybody at that machine could run code there. Start the experiment again "
            "with `fedrad serve` and `fedrad run`"
        )
    if note.socket is None:
        note.socket = note.members.with_name("superlink.sock")
    check_privacy(folder)
    if (fault := _not_serving(note.socket)) is not None:
        raise Refused(fault)
    add_weight_folder(note.weights)
    file = folder / "experiment.toml"
    if not file.is_file():
        raise Refused(f"{folder}: the experiment had not begun; start it again with `fedrad run`")
    return _run(file.read_text(encoding="utf-8"), folder, note, resume=True)


def _note_of(folder: Path) -> JsonFile[DeploymentNote]:
    return JsonFile(folder / SUPERLINK, DeploymentNote)


def _not_serving(socket: Path) -> str | None:
    """What to do if no SuperLink answers at a socket; None if one does."""
    if listens_at(socket):
        return None
    return (
        f"{socket.parent}: no `fedrad serve` runs with this folder; start it, or give its folder "
        "as --coordinator"
    )


def _run(text: str, out: Path, note: DeploymentNote, *, resume: bool) -> Summary:
    assert note.socket is not None
    run_config: FlowerSettings = {
        "experiment": text,
        "out": str(out.resolve()),
        "resume": resume,
        "members": str(note.members),
    }
    try:
        return follow(Control(note.socket).run(run_config), out)
    except FlowerError as error:
        raise ExperimentFailed(str(error)) from error
