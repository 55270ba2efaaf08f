"""Commands of a hospital's data-protection officer: what has left, and what may run."""

from pathlib import Path
from typing import Annotated

import typer

from fedrad.system.commands import fail

from .options import SiteFolder, SiteName, StateFolder


def ledger(
    folder: SiteFolder = Path("."),
    experiment: Annotated[
        str | None, typer.Option(help="Name of an experiment; only its messages are shown.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="File to write as well: .csv for a table, .json for every detail."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every detail as JSON.")] = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Show every message that has left this site, and verify that the record is unchanged."""
    from rich.console import Console

    from fedrad.client.policy.ledger import LEDGER, Ledger
    from fedrad.client.policy.ledger_table import (
        filter_by_experiment,
        ledger_as_json,
        print_ledger,
        write_ledger,
    )
    from fedrad.client.settings import open_site

    try:
        record = Ledger(open_site(folder, name=name, state=state).state / LEDGER).read()
        record = filter_by_experiment(record, experiment)
        if export is not None:
            write_ledger(record, export)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    if as_json:
        print(ledger_as_json(record))
    else:
        print_ledger(record, Console(highlight=False))
    if export is not None and not as_json:
        print(f"{export} written")


def approve(
    folder: SiteFolder = Path("."),
    experiment: Annotated[
        str | None,
        typer.Argument(help="Name of the experiment. Without it, all experiments are listed."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Experiment file that was sent in advance, to be approved now."),
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Withdraw an approval.")] = False,
    by: Annotated[
        str | None, typer.Option(help="Name of the person who decides; default: this user.")
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            help="First characters of the settings' hash, where several experiments have the name."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Decide without asking for confirmation.")
    ] = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Show in plain words what an experiment would do at this site, and approve it."""
    import getpass

    from rich.console import Console

    from fedrad.client.policy.approvals import Approvals
    from fedrad.client.settings import open_site
    from fedrad.exchange.experiment import read_experiment

    from . import approvals as approving

    console = Console(highlight=False)
    site = open_site(folder, name=name, state=state)
    try:
        if file is not None:
            given, text = read_experiment(file)
            asked = Approvals(site.state).add(given, text)
        elif experiment is not None:
            asked = approving.find_experiment(site, experiment, settings)
        else:
            approving.list_experiments(site, console)
            return
        approving.show_experiment(asked, site, console)
        decided: approving.Decided = "revoked" if revoke else "approved"
        if asked.standing == decided:
            print(f"{asked.name} is {decided} already")
            return
        question = "Take the approval back?" if revoke else "Approve exactly this?"
        if not yes and not typer.confirm(question):
            fail("nothing was decided")
        Approvals(site.state).decide(asked, decided, by or getpass.getuser())
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    print(f"{asked.name}: {decided}. The ledger has it; with other settings it would ask anew.")
