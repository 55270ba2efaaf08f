"""Commands that run experiments on this machine, over folders of sites."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .terminal import ExperimentFile, Sites, folders_of, show_progress

SeriesFolder = Annotated[
    Path,
    typer.Option(
        "--out", help="Folder for the results. If a run there was interrupted, it is continued."
    ),
]


class Engine(StrEnum):
    """How the messages of a simulation travel."""

    in_process = "in-process"
    flower = "flower"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demonstration.")] = Path("demo"),
) -> None:
    """Draw three phantom hospitals and run a federation over them."""
    from fedrad.deploy.local.demo import run_demo

    from .table import show_results

    show_progress()
    summary, folder = run_demo(out)
    show_results(summary, folder)


def simulate(
    experiment: ExperimentFile,
    site: Sites,
    out: Annotated[Path, typer.Option(help="New folder for the results.")],
    engine: Annotated[
        Engine,
        typer.Option(
            help="in-process: one site after another, quick and repeatable. flower: sites side by "
            "side in Flower's simulation runtime, for many sites or GPUs."
        ),
    ] = Engine.in_process,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what each site stores from one run to the next; default: OUT/sites."
        ),
    ] = None,
) -> None:
    """Run a whole federation on this machine, over folders of sites."""
    sites = folders_of(site)
    from fedrad.deploy.local import simulation

    from .table import show_results

    checked = simulation.prepare(experiment, sites, out, state=state)
    show_progress()
    if engine is Engine.flower:
        from fedrad.deploy.local.flower_engine import run_flower

        summary = run_flower(checked)
    else:
        summary = simulation.simulate(checked)
    show_results(summary, out)


def cross_validate(experiment: ExperimentFile, site: Sites, out: SeriesFolder) -> None:
    """Train once for each fold on this machine, so that every patient is tested.

    The experiment file sets the number of folds, as evaluation.folds.
    """
    sites = folders_of(site)
    from fedrad.deploy.local import cross_validate

    from .table import show_results

    show_progress()
    show_results(cross_validate.cross_validate(experiment, sites, out), out)


def leave_one_site_out(experiment: ExperimentFile, site: Sites, out: SeriesFolder) -> None:
    """Train once without each site on this machine, and test the model at that site.

    Needs at least three sites.
    """
    sites = folders_of(site)
    from fedrad.deploy.local import leave_one_site_out

    show_progress()
    for c in leave_one_site_out.leave_one_site_out(experiment, sites, out):
        interval = f" [{c.ci[0]:.2f}–{c.ci[1]:.2f}]" if c.ci else ""
        figure = c.missing if c.auroc is None else f"{c.auroc:.2f}{interval}"
        print(f"without {c.site}, tested there: {c.outcome} {figure}")
    print(out / "leave-one-site-out.json")


def ablate(experiment: ExperimentFile, site: Sites, out: SeriesFolder) -> None:
    """Run an experiment once for each row of its ablation table, and compare the rows."""
    sites = folders_of(site)
    from fedrad.deploy.local import ablate

    show_progress()
    page = ablate.ablate(experiment, sites, out)
    print((out / "compare.md").read_text(encoding="utf-8"))
    print(page)
