"""`fedrad`: the commands of coordinators, researchers and reviewers."""

from fedrad.system.no_telemetry import be_quiet

be_quiet()

import sys
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fedrad.exchange.experiment import ExperimentError
from fedrad.flower.internals import FlowerMovedError

from . import coordinator as coordinating
from .terminal import Folder, fail, show_progress, write_template

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated training on chest radiographs. Research use only; not a medical device.",
)
weights_app = typer.Typer(no_args_is_help=True, help="Base weights.")
app.add_typer(weights_app, name="weights")
app.add_typer(coordinating.sites_app, name="sites")
for command in (
    coordinating.serve,
    coordinating.invite,
    coordinating.run,
    coordinating.status,
    coordinating.stop,
    coordinating.resume,
):
    app.command()(command)


READER = "fedrad.client.images.transform.ReadRadiographd"
"""With which an exported MONAI bundle reads radiographs: as the hospitals do."""


class Engine(StrEnum):
    """What carries the messages of a simulation."""

    in_process = "in-process"
    flower = "flower"


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("experiment.toml"),
) -> None:
    """Write a commented experiment file to start from."""
    write_template(Path(__file__).parent / "templates" / "experiment.toml", file)


@app.command()
def simulate(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (TOML).")],
    site: Annotated[
        list[str], typer.Option(help="NAME=FOLDER of a site, with its cohort.csv; repeat.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the results.")],
    engine: Annotated[
        Engine, typer.Option(help="in-process: quick and repeatable; flower: many sites, GPUs.")
    ] = Engine.in_process,
    state: Annotated[
        Path | None,
        typer.Option(help="Where sites keep what is theirs, over several runs (OUT/sites)."),
    ] = None,
) -> None:
    """Run a whole federation on this machine over real site folders."""
    from fedrad.deploy.local.simulation import prepare, simulate
    from fedrad.deploy.start.preparation import Refused

    from .table import show

    try:
        simulation = prepare(experiment, _folders(site), out, state=state)
    except Refused as refused:
        fail(str(refused))
    show_progress()
    if engine is Engine.flower:
        from fedrad.deploy.local.flower_engine import run_flower

        summary = run_flower(simulation)
    else:
        summary = simulate(simulation)
    show(summary, out)


@app.command()
def leave_one_site_out(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (TOML).")],
    site: Annotated[list[str], typer.Option(help="NAME=FOLDER of a site; at least three.")],
    out: Annotated[Path, typer.Option(help="Folder; one that was begun is gone on with.")],
) -> None:
    """Run an experiment once without each site, on this machine: how does it do elsewhere?"""
    from fedrad.deploy.local.leave_one_site_out import leave_one_site_out
    from fedrad.deploy.start.preparation import Refused

    show_progress()
    try:
        cells = leave_one_site_out(experiment, _folders(site), out)
    except (Refused, ExperimentError) as refused:
        fail(str(refused))
    for c in cells:
        interval = f" [{c.ci[0]:.2f}–{c.ci[1]:.2f}]" if c.ci else ""
        figure = c.missing if c.auroc is None else f"{c.auroc:.2f}{interval}"
        print(f"without {c.site}, tested there: {c.outcome} {figure}")
    print(out / "leave-one-site-out.json")


@app.command()
def cross_validate(
    experiment: Annotated[Path, typer.Argument(help="Experiment file with evaluation.folds.")],
    site: Annotated[list[str], typer.Option(help="NAME=FOLDER of a site; repeat.")],
    out: Annotated[Path, typer.Option(help="Folder; one that was begun is gone on with.")],
) -> None:
    """Train once for each fold, on this machine; every patient is tested."""
    from fedrad.deploy.local.cross_validate import cross_validate
    from fedrad.deploy.start.preparation import Refused

    from .table import show

    show_progress()
    try:
        summary = cross_validate(experiment, _folders(site), out)
    except (Refused, ExperimentError) as refused:
        fail(str(refused))
    show(summary, out)


@app.command()
def ablate(
    experiment: Annotated[Path, typer.Argument(help="Experiment file with an ablation table.")],
    site: Annotated[list[str], typer.Option(help="NAME=FOLDER of a site; repeat.")],
    out: Annotated[Path, typer.Option(help="Folder; one that was begun is gone on with.")],
) -> None:
    """Run an experiment once for each row of its ablation table, here; compare the rows."""
    from fedrad.deploy.local.ablate import ablate
    from fedrad.deploy.start.preparation import Refused

    show_progress()
    try:
        page = ablate(experiment, _folders(site), out)
    except (Refused, ExperimentError) as refused:
        fail(str(refused))
    print((out / "compare.md").read_text(encoding="utf-8"))
    print(page)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders of experiments, two or more.")],
    out: Annotated[Path, typer.Option(help="Folder for the comparison.")] = Path("comparison"),
) -> None:
    """Set experiments on the same test patients side by side, paired by fold."""
    from fedrad.server.report.compare import Incomparable, named
    from fedrad.server.report.compare_page import write_comparison

    try:
        page = write_comparison(named(folders), out)
    except FileNotFoundError as error:
        fail(f"{error.filename}: no such file; give folders of finished experiments")
    except Incomparable as error:
        fail(str(error))
    except ValueError as error:
        fail(f"not a summary of fedrad: {error}")
    print((out / "compare.md").read_text(encoding="utf-8"))
    print(page)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demonstration.")] = Path("demo"),
) -> None:
    """Make three phantom hospitals and run a federation over them."""
    from fedrad.deploy.local.demo import run_demo

    from .table import show

    show_progress()
    summary, folder = run_demo(out)
    show(summary, folder)


@app.command()
def report(
    folder: Folder,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    index: Annotated[
        bool, typer.Option("--index", help="One page over all experiments in the folder.")
    ] = False,
) -> None:
    """Draw report.html and report.md anew from summary.json, or a page over many experiments."""
    from fedrad.server.report.index import write_index
    from fedrad.server.report.report import write_report

    try:
        file = write_index(folder) if index else write_report(folder)
    except FileNotFoundError:
        what = "no such folder" if index else "holds no summary.json"
        fail(f"{folder}: {what}; give the folder of {'experiments' if index else 'an experiment'}")
    except ValueError as error:
        fail(f"{folder / 'summary.json'}: not a summary of fedrad: {error}")
    print(file)
    if open_:
        webbrowser.open(file.resolve().as_uri())


@app.command()
def export(
    folder: Folder,
    to: Annotated[
        Path | None, typer.Option(help="New folder to write; default: `export` in FOLDER.")
    ] = None,
    onnx: Annotated[bool, typer.Option(help="Write model.onnx too.")] = True,
) -> None:
    """Write a finished experiment's model for others: safetensors, ONNX, MONAI bundle, card."""
    from fedrad.server.export.export import ExportFailed
    from fedrad.server.export.export import export as write_export

    target = to or folder / "export"
    try:
        record = write_export(folder, target, reader=READER, onnx=onnx)
    except ExportFailed as failed:
        fail(str(failed))
    except OSError as error:
        fail(f"{target}: cannot be written: {error.strerror}")
    print(target)
    if record.batchnorm == "local":
        print(
            "batchnorm = \"local\": the file holds the base's normalisation; each site's own, with "
            "which it was tested, stays there"
        )
    print("Research use only; not a medical device.")


@weights_app.command()
def pin(
    weights: Annotated[str, typer.Argument(help="resnet50-res512-all, imagenet, or a file.")],
    experiment: Annotated[Path, typer.Option(help="Experiment file.")] = Path("experiment.toml"),
) -> None:
    """Write the SHA-256 of base weights into an experiment; published ones are fetched once."""
    from fedrad.deploy.start.pin import pin_weights
    from fedrad.models.weight_files import WeightsError

    try:
        print(pin_weights(weights, experiment))
    except (ExperimentError, WeightsError) as error:
        fail(str(error))


def _folders(options: list[str]) -> dict[str, Path]:
    sites: dict[str, Path] = {}
    for option in options:
        name, equals, folder = option.partition("=")
        if not equals or not name or not folder:
            fail(f"--site {option}: write NAME=FOLDER")
        if name in sites:
            fail(f"--site {option}: a site named {name!r} is given already")
        sites[name] = Path(folder)
    return sites


def main() -> None:
    """Entry point of `fedrad`."""
    try:
        app()
    except FlowerMovedError as moved:
        fail(str(moved))
    except Exception as error:
        # Imported here, for torch takes seconds, which `fedrad init` need not wait for.
        from fedrad.models.weight_files import WeightsError
        from fedrad.server.federation.federation import ExperimentFailed, Stopped

        if isinstance(error, Stopped):
            print("Stopped; `fedrad resume` goes on from here", file=sys.stderr)
            raise SystemExit(1) from None
        if not isinstance(error, ExperimentFailed | WeightsError):
            raise
        print(f"The experiment failed: {error}", file=sys.stderr)
        raise SystemExit(1) from None
