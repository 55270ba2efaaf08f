"""`fedrad`: the commands of coordinators, researchers and reviewers.

A command imports its modules when it is called, after its arguments have been checked.
So help, status and errors of usage answer at once (tests/deploy/commands/test_quick.py).
"""

from fedrad.system.interrupts import end_quietly
from fedrad.system.no_telemetry import disable_telemetry

end_quietly()
disable_telemetry()

import sys
from pathlib import Path
from typing import Annotated

import typer

from fedrad.server.federation.failure import Stopped
from fedrad.system.commands import CommandGroup, VersionOption, fail
from fedrad.system.private import make_private
from fedrad.system.program import run_program

from . import coordinator, local, results
from .terminal import write_template

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated training on chest radiographs. Research use only; not a medical device.",
)


@app.callback()
def options(version: VersionOption = False) -> None:
    """Federated training on chest radiographs. Research use only; not a medical device."""


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("experiment.toml"),
) -> None:
    """Write a commented experiment file to start from."""
    write_template(Path(__file__).parent / "templates" / "experiment.toml", file)


weights_app = typer.Typer(no_args_is_help=True, help="The base weights that training starts from.")


@weights_app.command()
def pin(
    weights: Annotated[
        str, typer.Argument(help="Base weights: resnet50-res512-all, imagenet, or a file.")
    ],
    experiment: Annotated[
        Path, typer.Option(help="Experiment file in which they are named.")
    ] = Path("experiment.toml"),
) -> None:
    """Write the name and SHA-256 of base weights into an experiment file.

    Published weights are downloaded once, into the user's cache.
    """
    if not experiment.is_file():
        fail(f"{experiment}: no such file; `fedrad init` writes a commented one")
    from fedrad.deploy.start.pin import pin_weights

    print(pin_weights(weights, experiment))


for command in (
    local.demo,
    local.simulate,
    local.cross_validate,
    local.leave_one_site_out,
    local.ablate,
    coordinator.serve,
    coordinator.invite,
    coordinator.run,
    coordinator.status,
    coordinator.stop,
    coordinator.resume,
    results.report,
    results.compare,
    results.export,
):
    app.command()(command)
app.command("passphrase")(coordinator.passphrase_command)
app.add_typer(coordinator.sites_app, name="sites")
app.add_typer(weights_app, name="weights")


def main() -> None:
    """Entry point of `fedrad`."""
    make_private()
    run_program(_commands)


def _commands() -> None:
    try:
        app()
    except Stopped:
        print("Stopped; `fedrad resume` goes on from here", file=sys.stderr)
        raise SystemExit(1) from None
