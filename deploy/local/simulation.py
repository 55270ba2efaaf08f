"""Simulates a federation on one machine, over real site folders."""

import json
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, RecordDict

from fedrad.client.app import app as client_app
from fedrad.client.cohort import Pseudonyms, read_table
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site, open_site
from fedrad.deploy.refused import ArgumentFault, Refused
from fedrad.deploy.start.notes import SIMULATION
from fedrad.deploy.start.preparation import given_experiment, make_folder
from fedrad.exchange.experiment import Experiment, ExperimentError, read_experiment
from fedrad.flower.grid import InProcessGrid, NodeConfig
from fedrad.models.weight_folders import add_weight_folder
from fedrad.server.app import app as server_app
from fedrad.server.results.summary import Summary, read_summary


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


def prepare(
    experiment_file: Path, sites: dict[str, Path], out: Path, *, state: Path | None = None
) -> Simulation:
    """Check experiment, base weights, sites and output folder, and report all faults at once.

    Parameters
    ----------
    experiment_file
        File of the experiment.
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
    experiment, text, faults = given_experiment(experiment_file, out)
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
    make_folder(out, faults)
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


def save_simulation(simulation: Simulation, engine: str) -> None:
    """Save what a resume needs, in the folder of the sites' state.

    `engine`: "in-process" or "flower".
    """
    file = simulation.folder / SIMULATION
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"engine": engine, "nodes": simulation.nodes, "weights": str(simulation.weights)}
    file.write_text(json.dumps(content), encoding="utf-8")


def load_simulation(folder: Path) -> tuple[Simulation, str] | None:
    """The simulation of a folder, to be resumed, and its engine; None if the folder has none.

    Raises Refused if it cannot be resumed.
    """
    if not (folder / SIMULATION).is_file():
        return None
    content = json.loads((folder / SIMULATION).read_text(encoding="utf-8"))
    try:
        experiment, text = read_experiment(folder / "experiment.toml")
        for node in content["nodes"]:
            open_site(Path(node["folder"]), name=node["name"], state=Path(node["state"]))
    except (ExperimentError, SiteProblem) as error:
        raise Refused(str(error)) from error
    add_weight_folder(Path(content["weights"]))
    simulation = Simulation(
        experiment, text, content["nodes"], folder.resolve(), Path(content["weights"]), resume=True
    )
    return simulation, content["engine"]
