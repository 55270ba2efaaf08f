"""Simulates a federation on one machine, over real site folders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flwr.app import Context, RecordDict
from pydantic import BaseModel

from fedrad.client.app import app as client_app
from fedrad.client.cohort import Pseudonyms, read_table
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.deploy.refused import ArgumentFault, Refused
from fedrad.deploy.start.notes import SIMULATION
from fedrad.deploy.start.preparation import (
    check_privacy,
    experiment_text,
    given_experiment,
    prepare_folder,
)
from fedrad.exchange.experiment import Experiment, ExperimentError, read_experiment
from fedrad.flower.grid import InProcessGrid, NodeConfig
from fedrad.models.weight_folders import add_weight_folder
from fedrad.server.app import app as server_app
from fedrad.server.results.summary import Summary, read_summary
from fedrad.system.files import JsonFile, UnreadableFileError
from fedrad.system.folders import make_folder
from fedrad.system.private import privacy_fault

Engine = Literal["in-process", "flower"]


@dataclass(frozen=True)
class Simulation:
    """A simulation whose input was checked and can run. No results have been written yet."""

    experiment: Experiment
    text: str
    nodes: list[NodeConfig]
    folder: Path
    weights: Path
    """Folder of the experiment file, in which base weights are searched."""
    resume: bool = False


class SimulationNote(BaseModel):
    """Content of `simulation.json`: what a resume needs besides the experiment.

    `weights`: folder in which base weights are searched.
    """

    engine: Engine
    nodes: list[NodeConfig]
    weights: Path


def prepare(
    experiment_file: Path, sites: dict[str, Path], out: Path, *, state: Path | None = None
) -> Simulation:
    """Read an experiment file and check it as `prepare_text` does."""
    text = experiment_text(experiment_file)
    return prepare_text(text, experiment_file, sites, out, state=state)


def prepare_text(
    text: str,
    experiment_file: Path,
    sites: dict[str, Path],
    out: Path,
    *,
    state: Path | None = None,
) -> Simulation:
    """Check experiment, base weights, sites and output folder, and report all faults at once.

    Parameters
    ----------
    text
        The experiment, which may differ from the file.
    experiment_file
        File from which the text was made. It is not read, but named in messages, and base weights
        are searched beside it.
    sites
        Name -> folder of each site, with its cohort table.
    out
        Folder for the coordinator's results.
    state
        Folder for the sites' state, in `state/NAME`; None for `out/sites`. An experiment that
        starts from the model of an earlier one needs the earlier one's folder, in which each site
        has recorded the patients that it trained on.

    Raises
    ------
    Refused
        With all faults, before anything is run.
    """
    state = (state or out / "sites").resolve()
    experiment, faults = given_experiment(text, experiment_file, out)
    if len(sites) < experiment.federation.quorum:
        faults.append(
            f"federation.quorum = {experiment.federation.quorum}: more than the {len(sites)} "
            "sites given; lower it or add a site"
        )
    for key, names in (
        ("federation.sites", experiment.federation.sites),
        ("evaluation.held_out", experiment.evaluation.held_out),
    ):
        unknown = [name for name in names if name not in sites]
        faults += [f"{key}: {name!r} is not among the sites given" for name in unknown]
    nodes = []
    for name, folder in sites.items():
        site_state = state / name
        try:
            site: Site = open_site(folder.resolve(), name=name, state=site_state)
            read_table(site, experiment.outcomes, Pseudonyms.temporary())
            nodes.append({"folder": str(site.folder), "name": name, "state": str(site_state)})
        except SiteProblem as problem:
            faults.append(ArgumentFault(f"site {name}: {problem}"))
        if (fault := privacy_fault(site_state)) is not None:
            faults.append(ArgumentFault(f"state {fault}"))
    prepare_folder(out, faults)
    return Simulation(experiment, text, nodes, out.resolve(), experiment_file.parent.resolve())


def simulate(simulation: Simulation) -> Summary:
    """Run the ServerApp and the ClientApp in this process. Returns the summary."""
    save_simulation(simulation, "in-process")
    run_config: dict[str, str | float | bool] = {
        "experiment": simulation.text,
        "out": str(simulation.folder),
        "wait-seconds": 0.0,
        "resume": simulation.resume,
    }
    grid = InProcessGrid(client_app, simulation.nodes, {"experiment": simulation.text})
    context = Context(
        run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=dict(run_config)
    )
    server_app(grid, context)
    return read_summary(simulation.folder)


def save_simulation(simulation: Simulation, engine: Engine) -> None:
    """Save what a resume needs, in the folder of the sites' state."""
    file = _note_of(simulation.folder)
    make_folder(file.path.parent)
    file.write(SimulationNote(engine=engine, nodes=simulation.nodes, weights=simulation.weights))


def load_simulation(folder: Path) -> tuple[Simulation, Engine] | None:
    """The simulation of a folder, to be resumed, and its engine; None if the folder has none.

    Raises Refused if it cannot be resumed.
    """
    try:
        note = _note_of(folder).read()
        if note is None:
            return None
        check_privacy(folder)
        experiment, text = read_experiment(folder / "experiment.toml")
        for node in note.nodes:
            open_site(Path(node["folder"]), name=node["name"], state=Path(node["state"]))
    except (ExperimentError, SiteProblem, UnreadableFileError) as error:
        raise Refused(str(error)) from error
    add_weight_folder(note.weights)
    simulation = Simulation(
        experiment, text, note.nodes, folder.resolve(), note.weights, resume=True
    )
    return simulation, note.engine


def _note_of(folder: Path) -> JsonFile[SimulationNote]:
    return JsonFile(folder / SIMULATION, SimulationNote)
