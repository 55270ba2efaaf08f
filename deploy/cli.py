"""`fedrad`: the commands of coordinators, researchers and reviewers."""

from fedrad.exchange.quiet import be_quiet

be_quiet()

import logging
import shutil
import sys
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler

from fedrad.exchange.experiment import ExperimentError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated training on chest radiographs. Research use only; not a medical device.",
)
Folder = Annotated[Path, typer.Argument(help="Folder of an experiment.")]
CoordinatorFolder = Annotated[
    Path | None,
    typer.Option("--coordinator", help="Folder of `fedrad serve`, where it is not the usual one."),
]
weights_app = typer.Typer(no_args_is_help=True, help="Base weights.")
app.add_typer(weights_app, name="weights")
sites_app = typer.Typer(help="The sites of this coordinator.")
app.add_typer(sites_app, name="sites")


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
    from .given import Refused
    from .simulation import prepare, simulate
    from .table import show

    try:
        simulation = prepare(experiment, _folders(site), out, state=state)
    except Refused as refused:
        fail(str(refused))
    show_progress()
    if engine is Engine.flower:
        from .flower_engine import run_flower

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
    from .given import Refused
    from .leave_out import leave_one_site_out

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
    from .cross_validate import cross_validate
    from .given import Refused
    from .table import show

    show_progress()
    try:
        summary = cross_validate(experiment, _folders(site), out)
    except (Refused, ExperimentError) as refused:
        fail(str(refused))
    show(summary, out)


@app.command()
def ablate(
    experiment: Annotated[Path, typer.Argument(help="Experiment file with [ablation].")],
    site: Annotated[list[str], typer.Option(help="NAME=FOLDER of a site; repeat.")],
    out: Annotated[Path, typer.Option(help="Folder; one that was begun is gone on with.")],
) -> None:
    """Run an experiment once for each row of its [ablation], on this machine; compare the rows."""
    from .ablate import ablate
    from .given import Refused

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
    from fedrad.server.compare import Incomparable, named
    from fedrad.server.compare_page import write_comparison

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
def run(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (TOML).")],
    out: Annotated[Path, typer.Option(help="New folder for the results.")],
    superlink: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of another SuperLink on this machine than `fedrad serve`'s."),
    ] = None,
    root_certificates: Annotated[
        Path | None,
        typer.Option(help="Certificate authority of that one; none: no TLS, loopback only."),
    ] = None,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Run an experiment over the hospitals that are connected to this coordinator.

    Ctrl-C leaves it running; `fedrad status` shows it, `fedrad stop` stops it.
    """
    from .coordinator import Coordinator, default_folder
    from .deployed import run_deployed
    from .flower_processes import Connection
    from .given import Refused
    from .table import show

    show_progress()
    try:
        if superlink is None:
            connection = Coordinator(coordinator or default_folder()).connection()
        else:
            connection = Connection(superlink, root_certificates)
        summary = run_deployed(experiment, out, connection)
    except Refused as refused:
        fail(str(refused))
    except KeyboardInterrupt:
        print(f"The experiment goes on without us: `fedrad status {out}`", file=sys.stderr)
        raise SystemExit(130) from None
    show(summary, out)


@app.command()
def serve(
    address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT as hospitals reach this machine; needed on the first start."),
    ] = None,
    listen: Annotated[str, typer.Option(help="Address of this machine to listen at.")] = "0.0.0.0",
    name: Annotated[
        list[str] | None, typer.Option(help="Further name in the certificate; repeat.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Own server certificate (PEM), with --key and --ca.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    ca: Annotated[Path | None, typer.Option(help="Who signed it.")] = None,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Be the coordinator: keep the SuperLink running that hospitals connect to.

    Ctrl-C ends it, and with it the run of an experiment, which `fedrad resume` goes on with.
    """
    from .coordinator import Coordinator, default_folder
    from .given import Refused
    from .serve import serve as keep_serving

    show_progress()
    own = [file for file in (certificate, key, ca) if file is not None]
    try:
        if len(own) not in {0, 3}:
            raise Refused("--certificate, --key and --ca belong together")
        here = Coordinator(coordinator or default_folder())
        served = here.set_up(
            address, listen=listen, names=name or [],
            own=(own[0], own[1], own[2]) if own else None,
        )  # fmt: skip
        keep_serving(here, served)
    except Refused as refused:
        fail(str(refused))
    except KeyboardInterrupt:
        print("ended; hospitals' nodes look for it until it is back", file=sys.stderr)


@app.command()
def invite(
    site: Annotated[str, typer.Argument(help="Name under which the hospital will take part.")],
    to: Annotated[
        Path | None, typer.Option(help="File to write; default: SITE.invitation.")
    ] = None,
    days: Annotated[float, typer.Option(help="For how long it can be answered.")] = 14.0,
    coordinator: CoordinatorFolder = None,
) -> None:
    """Write an invitation for a hospital, to be sent to its engineer."""
    from .coordinator import Coordinator, default_folder
    from .given import Refused

    file = to or Path(f"{site}.invitation")
    try:
        invitation = Coordinator(coordinator or default_folder()).invite(site, file, days=days)
    except Refused as refused:
        fail(str(refused))
    print(
        f"{file} written; it is no secret. Send it, then read this out by telephone:\n\n"
        f"    {invitation.fingerprint()}\n\n"
        f"The hospital runs `fedrad-site join {file.name}` until "
        f"{invitation.expires:%d %B %Y} and sends a request back: `fedrad sites admit`."
    )


@sites_app.callback(invoke_without_command=True)
def sites(context: typer.Context, coordinator: CoordinatorFolder = None) -> None:
    """List the sites that were invited, admitted and revoked, and which are connected."""
    from .coordinator import default_folder
    from .given import Refused
    from .roster import show_members

    context.obj = coordinator or default_folder()
    if context.invoked_subcommand is None:
        try:
            show_members(context.obj)
        except Refused as refused:
            fail(str(refused))


@sites_app.command()
def admit(
    context: typer.Context,
    request: Annotated[Path, typer.Argument(help="Request file that the hospital sent.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="What the hospital read out; without it you are asked.")
    ] = None,
) -> None:
    """Admit a hospital that answered its invitation."""
    from .coordinator import Coordinator
    from .given import Refused

    here = Coordinator(context.obj)
    try:
        answered = here.examine(request)
        shown = answered.fingerprint()
        if fingerprint is None:
            print(f"Request of {answered.site}. The hospital reads out:\n\n    {shown}\n")
            if not typer.confirm("Does the hospital read out the same?"):
                fail("not admitted: the file was changed on the way, or is not the hospital's")
        elif fingerprint.replace(" ", "") != shown.replace(" ", ""):
            fail(f"not admitted: the request's fingerprint is {shown}")
        here.admit(answered)
    except Refused as refused:
        fail(str(refused))
    print(
        f"{answered.site} is admitted; its node is let in within seconds while `fedrad serve` runs"
    )


@sites_app.command()
def revoke(
    context: typer.Context, site: Annotated[str, typer.Argument(help="Name of the site.")]
) -> None:
    """Turn a hospital's node away from now on, or take an invitation back."""
    from .coordinator import Coordinator
    from .given import Refused

    try:
        was = Coordinator(context.obj).revoke(site)
    except Refused as refused:
        fail(str(refused))
    print(
        f"{site} is revoked; its node is turned away within seconds"
        if was == "admitted"
        else f"the invitation of {site} is revoked"
    )


@app.command()
def resume(folder: Folder) -> None:
    """Go on with an experiment that ended early, from its last checkpoint."""
    from .deployed import NOTE, resume_deployed
    from .flower_engine import run_flower
    from .given import Refused
    from .simulation import noted, simulate
    from .table import show

    show_progress()
    try:
        if simulation := noted(folder):
            summary = (run_flower if simulation[1] == "flower" else simulate)(simulation[0])
        elif (folder / NOTE).is_file():
            summary = resume_deployed(folder)
        else:
            fail(f"{folder}: holds no experiment; give the --out of `fedrad run` or `simulate`")
    except Refused as refused:
        fail(str(refused))
    show(summary, folder)


@app.command()
def status(
    folder: Folder,
    once: Annotated[bool, typer.Option(help="Show it once, instead of live.")] = False,
) -> None:
    """Show how far an experiment is: rounds, sites, curves, time left; live until it ends."""
    from .status import watch

    try:
        watch(folder, once=once)
    except FileNotFoundError:
        fail(f"{folder}: holds no experiment; give the --out of `fedrad run` or `simulate`")


@app.command()
def stop(folder: Folder) -> None:
    """Stop an experiment at the next moment between two answers; `fedrad resume` goes on."""
    from fedrad.server.checkpoint import Checkpoint

    checkpoint = Checkpoint(folder / "checkpoint")
    if not checkpoint.is_held():
        fail(f"{folder}: no run is at work on an experiment here")
    checkpoint.stop_file.touch()
    print("asked to stop; what sites have answered is kept")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demonstration.")] = Path("demo"),
) -> None:
    """Make three phantom hospitals and run a federation over them."""
    from .demo import run_demo
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
    from fedrad.server.index import write_index
    from fedrad.server.report import write_report

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
    from fedrad.server.export import ExportFailed
    from fedrad.server.export import export as write_export

    target = to or folder / "export"
    try:
        record = write_export(folder, target, onnx=onnx)
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
    from fedrad.models.weight_files import WeightsError

    from .pin import pin_weights

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


def write_template(template: Path, file: Path) -> None:
    """Copy a commented starting file to where there is none yet."""
    if file.exists():
        fail(f"{file}: exists already")
    if not file.parent.is_dir():
        fail(f"{file.parent}: no such folder")
    shutil.copyfile(template, file)
    print(f"{file} written; edit it, the comments say how")


def show_progress() -> None:
    """Log lines of fedrad to the terminal; warnings of the libraries too."""
    handler = RichHandler(
        console=Console(stderr=True), show_path=False, show_level=False, log_time_format="%H:%M:%S"
    )
    logging.getLogger("fedrad").addHandler(handler)
    logging.getLogger("fedrad").setLevel(logging.INFO)


def fail(text: str) -> NoReturn:
    """Say what is wrong and end with status 2."""
    Console(stderr=True).print("[bold red]refused[/]", highlight=False)
    print(text, file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    """Entry point of `fedrad`."""
    try:
        app()
    except Exception as error:
        # Imported here, for torch takes seconds, which `fedrad init` need not wait for.
        from fedrad.models.weight_files import WeightsError
        from fedrad.server.federation import ExperimentFailed, Stopped

        if isinstance(error, Stopped):
            print("Stopped; `fedrad resume` goes on from here", file=sys.stderr)
            raise SystemExit(1) from None
        if not isinstance(error, ExperimentFailed | WeightsError):
            raise
        print(f"The experiment failed: {error}", file=sys.stderr)
        raise SystemExit(1) from None
