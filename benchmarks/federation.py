"""The federation beside the same recipe centrally and locally, same patients, same budget.

    python benchmarks/federation.py EXPERIMENT.toml --site NAME=FOLDER … --out DIR

Runs `fedrad simulate` twice, with one-class sites only evaluating and with them training, and
trains models centrally on the pooled training patients for as many passes, without and with those
of one-class sites. All are scored on the same test patients. Prints a Markdown table, with
seconds per round and peak memory. `--run` does some of these; `--threads 1` and two processes
use two cores better than one process with two.
"""

import argparse
import copy
import json
import resource
import time
from pathlib import Path

import numpy as np
import tomlkit
import torch

from fedrad.client.figures.one_split import OneSplit
from fedrad.client.figures.scored_units import ScoredUnits
from fedrad.client.participant.site_data import SiteData
from fedrad.client.settings import open_site
from fedrad.deploy.commands.terminal import show_progress
from fedrad.deploy.local.simulation import Simulation, prepare, simulate
from fedrad.exchange.model_names import family_of, local_of
from fedrad.models.examples import Examples
from fedrad.models.training import score, train_round
from fedrad.server.results.overall import ReleasedFigures, cells, overall
from fedrad.server.results.summary import Cell, Overall

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
RUNS = ("evaluates", "trains", "central", "central-one-class")

Row = tuple[str, list[Cell], Overall]


def main() -> None:
    """Do the runs asked for, and print the table of all runs done so far."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--site", action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", nargs="*", choices=RUNS, default=RUNS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    show_progress()
    torch.set_num_threads(arguments.threads)
    sites = {n: Path(f) for n, _, f in (s.partition("=") for s in arguments.site)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for run in arguments.run:
        started = time.perf_counter()
        file = variant(arguments.experiment, run, arguments.out)
        simulation = prepare(file, sites, arguments.out / run)
        rows = central(simulation) if run.startswith("central") else federated(simulation, run)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{run}: {seconds:.0f} s in all, peak memory of the process {peak:.2f} GiB")
        (arguments.out / f"{run}.json").write_text(
            json.dumps([(n, [c.model_dump() for c in cs], o.model_dump()) for n, cs, o in rows])
        )
    done = [arguments.out / f"{run}.json" for run in RUNS]
    rows = [
        (name, [Cell(**c) for c in of_sites], Overall(**whole))
        for file in done
        if file.is_file()
        for name, of_sites, whole in json.loads(file.read_text())
    ]
    show(rows, sorted(sites))


def variant(experiment: Path, run: str, out: Path) -> Path:
    """The experiment file of a run: what one-class sites do, and local models only once."""
    document = tomlkit.parse(experiment.read_text("utf-8"))
    federation = document.setdefault("federation", tomlkit.table())
    federation["train_one_class"] = run in ("trains", "central-one-class")
    evaluation = document.setdefault("evaluation", tomlkit.table())
    evaluation["local_baseline"] = run == "evaluates"
    file = out / f"{run}.toml"
    file.write_text(tomlkit.dumps(document), encoding="utf-8")
    return file


def federated(simulation: Simulation, run: str) -> list[Row]:
    """Simulate; the global model, and the local ones where they were trained."""
    summary = simulate(simulation)
    print(f"{run}: median {np.median([r.seconds for r in summary.rounds]):.1f} s a round")
    rows = []
    for family, name in (("local", "local-only"), ("global", f"federated, one-class site {run}")):
        whole = next((o for o in summary.overall if o.model == family), None)
        if whole and whole.within is not None:
            of_sites = [c for c in summary.cells if family_of(c.model) == family]
            rows.append((name, of_sites, whole))
    return rows


def central(simulation: Simulation) -> list[Row]:
    """Train on all sites' training patients in one place; score at each site."""
    experiment = simulation.experiment
    participants = [
        SiteData(open_site(Path(n["folder"]), name=n["name"], state=Path(n["state"])), experiment)
        for n in simulation.nodes
    ]
    training = [p.parts["train"] for p in participants if p.does_not_train_because is None]
    pooled = Examples(
        np.concatenate([t.images for t in training]), np.concatenate([t.labels for t in training])
    )
    network = copy.deepcopy(participants[0].base.network)
    for number in range(experiment.schedule.rounds):
        figures = train_round(
            network, pooled, experiment.schedule, number, seed=number, device=DEVICE
        )
        print(f"central, round {number + 1}: loss {figures.loss:.3f}", flush=True)
    releases = {}
    for p in participants:
        parts = {
            part: ScoredUnits(
                p.parts[part].labels,
                p.parts[part].patients,
                {"global": score(network, p.parts[part].images, device=DEVICE)},
            )
            for part in ("validation", "test")
        }
        own, groups = local_of(p.site.name), experiment.evaluation.subgroups
        split = OneSplit(experiment.outcomes, p.disclosure, own, groups, "test", {})
        releases[p.site.name] = split.release(
            [parts["test"]], [parts["validation"]], ["global"], {}
        )
    tested = ReleasedFigures(releases)
    extra = ", one-class site in it" if experiment.federation.train_one_class else ""
    return [
        (
            f"central{extra}",
            cells(tested, ["global"], experiment),
            overall(tested, ["global"], experiment)[0],
        )
    ]


def show(rows: list[Row], sites: list[str]) -> None:
    """Print the table in Markdown."""
    head = ["model", *sites, "within-site", "pooled ± bound", "site-only"]
    print("\n| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for name, of_sites, whole in rows:
        of_site = {c.site: c for c in of_sites}
        figures = [_cell(of_site.get(s)) for s in sites]
        figures.append(_interval(whole.within, whole.within_ci))
        figures.append(f"{_interval(whole.pooled, whole.pooled_ci)} ± {whole.bound or 0:.3f}")
        figures.append(f"{whole.site_only or 0:.3f}")
        print("| " + " | ".join([name, *figures]) + " |")


def _cell(cell: Cell | None) -> str:
    return "–" if cell is None else cell.missing or _interval(cell.auroc, cell.ci)


def _interval(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "–"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


if __name__ == "__main__":
    main()
