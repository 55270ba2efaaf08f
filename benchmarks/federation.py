"""The federation beside the same recipe centrally and locally, same patients, same budget.

    python benchmarks/federation.py EXPERIMENT.toml --site NAME=FOLDER … --out DIR

Runs `fedrad simulate` twice, with one-class sites only evaluating and with them training, and
trains one model centrally on the pooled training patients for as many passes. All are scored on
the same test patients. Prints a Markdown table, with seconds per round and peak memory.
"""

import argparse
import copy
import resource
import time
from pathlib import Path

import numpy as np
import torch

from fedrad.client.participant import Participant
from fedrad.client.settings import open_site
from fedrad.deploy.cli import show_progress
from fedrad.deploy.simulation import Simulation, prepare, simulate
from fedrad.exchange.experiment import Experiment, parse_experiment
from fedrad.exchange.messages import Scores
from fedrad.models.training import Examples, score, train_round
from fedrad.server.summary import Cell, Overall, cells_and_overall

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--site", action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    show_progress()
    sites = {n: Path(f) for n, _, f in (s.partition("=") for s in arguments.site)}
    text = arguments.experiment.read_text("utf-8")
    rows: list[tuple[str, list[Cell], Overall]] = []
    for trains in (False, True):
        variant = arguments.out / ("one-class-trains" if trains else "one-class-evaluates")
        file = arguments.experiment.with_name(f"{variant.name}.toml")
        file.write_text(text.replace("[federation]", f"[federation]\ntrain_one_class = {str(trains).lower()}"))
        simulation = prepare(file, sites, variant)
        started = time.perf_counter()
        summary = simulate(simulation)
        seconds = [r.seconds for r in summary.rounds]
        print(
            f"{variant.name}: {time.perf_counter() - started:.0f} s in all, "
            f"{np.median(seconds):.1f} s a round (median), peak "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
        )
        for family in ("local", "global"):
            if family == "local" and trains:
                continue
            overall = next(o for o in summary.overall if o.model == family)
            cells = [c for c in summary.cells if c.model.partition(":")[0] == family]
            name = f"federated, {variant.name}" if family == "global" else "local-only"
            rows.append((name, cells, overall))
        for with_one_class in (False, True) if trains else ():
            rows.append(central(simulation, parse_experiment(file.read_text()), with_one_class))
    show(rows, sorted(sites))


def central(
    simulation: Simulation, experiment: Experiment, with_one_class: bool
) -> tuple[str, list[Cell], Overall]:
    """Train on all sites' training patients in one place; score at each site."""
    participants = [
        Participant(
            open_site(Path(n["folder"]), name=n["name"], state=Path(n["state"])), experiment
        )
        for n in simulation.nodes
    ]
    training = [
        p.parts["train"]
        for p in participants
        if with_one_class or len(np.unique(p.parts["train"].labels)) > 1
    ]
    pooled = Examples(
        np.concatenate([t.images for t in training]), np.concatenate([t.labels for t in training])
    )
    network = copy.deepcopy(participants[0].base.network)
    for round_ in range(experiment.schedule.rounds):
        figures = train_round(
            network, pooled, experiment.schedule, round_, seed=round_, device=DEVICE
        )
        print(f"central, round {round_ + 1}: loss {figures.loss:.3f}", flush=True)
    scores: dict[str, list[Scores]] = {}
    for p in participants:
        test = p.parts["test"]
        logits = score(network, test.images, device=DEVICE)
        scores[p.site.name] = [
            p.disclosure.scores("global", outcome, logits[:, k], test.labels[:, k], None)
            for k, outcome in enumerate(experiment.outcomes)
        ]
    cells, overall = cells_and_overall(
        scores, {}, ["global"], list(experiment.outcomes), {}, experiment.evaluation.confidence
    )
    return f"central{', with one-class sites' if with_one_class else ''}", cells, overall[0]


def show(rows: list[tuple[str, list[Cell], Overall]], sites: list[str]) -> None:
    """Print the table in Markdown."""
    head = ["model", *sites, "within-site", "pooled ± bound", "site-only"]
    print("\n| " + " | ".join(head) + " |")
    print("|" + " --- |" * len(head))
    for name, cells, overall in rows:
        of_site = {c.site: c for c in cells}
        figures = [_cell(of_site.get(s)) for s in sites]
        figures.append(_interval(overall.within, overall.within_ci))
        figures.append(f"{_interval(overall.pooled, overall.pooled_ci)} ± {overall.bound or 0:.3f}")
        figures.append(f"{overall.site_only or 0:.3f}")
        print("| " + " | ".join([name, *figures]) + " |")


def _cell(cell: Cell | None) -> str:
    return "–" if cell is None else cell.missing or _interval(cell.auroc, cell.ci)


def _interval(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "–"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


if __name__ == "__main__":
    main()
