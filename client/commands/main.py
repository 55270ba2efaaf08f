"""`fedrad-site`: the commands of a hospital's engineer and data-protection officer.

A command imports its modules when it is called, after its arguments have been checked.
So help, ledger, approvals and errors of usage answer at once (tests/deploy/commands/test_quick.py).
"""

from fedrad.system.interrupts import end_quietly
from fedrad.system.no_telemetry import disable_telemetry

end_quietly()
disable_telemetry()

import os
from pathlib import Path

import typer

from fedrad.system.commands import CommandGroup, VersionOption, fail
from fedrad.system.files import write_whole
from fedrad.system.private import make_private
from fedrad.system.program import run_program

from . import book, cohort, images, node, officer, officer_key, patients, policy
from .options import SiteFolder

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One hospital in a federation. Research use only; not a medical device.",
)


@app.callback()
def options(version: VersionOption = False) -> None:
    """One hospital in a federation. Research use only; not a medical device."""


@app.command()
def init(folder: SiteFolder = Path(".")) -> None:
    """Write a commented site.toml to start from."""
    file = folder / "site.toml"
    if os.path.lexists(file):
        fail(f"{file}: exists already")
    if not folder.is_dir():
        fail(f"{folder}: no such folder")
    write_whole(file, (Path(__file__).parent / "templates" / "site.toml").read_bytes())
    print(f"{file} written; edit it, the comments say how")


for command in (
    cohort.check,
    node.join,
    node.start,
    node.stop,
    officer.approve,
    officer.ledger,
    book.book,
    patients.withdraw,
    images.predict,
    cohort.explain,
    images.progression,
):
    app.command()(command)

app.command("passphrase")(node.passphrase_command)
app.add_typer(policy.app, name="policy")
app.add_typer(officer_key.app, name="officer")


def main() -> None:
    """Entry point of `fedrad-site`."""
    make_private()
    run_program(app)
