"""`fedrad run`: an experiment over the hospitals that are connected to a SuperLink."""

import json
from pathlib import Path

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
from fedrad.system.files import write_whole

from .follow import follow
from .notes import SUPERLINK
from .preparation import given_experiment, make_folder


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
    _, text, faults = given_experiment(experiment_file, out)
    if connection.root_certificates and not connection.root_certificates.is_file():
        faults.append(f"--root-certificates {connection.root_certificates}: no such file")
    make_folder(out, faults)
    certificates = connection.root_certificates
    note = {
        "address": connection.address,
        "root_certificates": str(certificates.resolve()) if certificates else None,
        "members": str(connection.members.resolve()) if connection.members else None,
        "weights": str(experiment_file.parent.resolve()),
    }
    write_whole(out / SUPERLINK, json.dumps(note))
    return _run(text, out, connection, resume=False)


def resume_deployed(folder: Path) -> Summary:
    """Continue an experiment of `run_deployed`. Raises Refused, ExperimentFailed."""
    note = json.loads((folder / SUPERLINK).read_text(encoding="utf-8"))
    add_weight_folder(Path(note["weights"]))
    certificates, members = note["root_certificates"], note.get("members")
    connection = SuperLinkConnection(
        note["address"],
        Path(certificates) if certificates else None,
        Path(members) if members else None,
    )
    file = folder / "experiment.toml"
    if not file.is_file():
        raise Refused(f"{folder}: the experiment had not begun; start it again with `fedrad run`")
    return _run(file.read_text(encoding="utf-8"), folder, connection, resume=True)


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
