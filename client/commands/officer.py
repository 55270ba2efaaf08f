"""The commands of a hospital's data-protection officer: what left, and what may run."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Folder, SiteName, StateFolder, fail


def ledger(
    folder: Folder = Path("."),
    experiment: Annotated[
        str | None, typer.Option(help="Only the messages of this experiment.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="File to write all to: .csv, or .json with all of it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all as JSON.")] = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Show all that left this site, and verify that nothing in the record was changed."""
    from rich.console import Console

    from fedrad.client.policy.ledger import LEDGER, Ledger, LedgerError
    from fedrad.client.policy.ledger_table import as_json_text, of_experiment, show, write
    from fedrad.client.problems import SiteProblem
    from fedrad.client.settings import open_site

    try:
        record = Ledger(open_site(folder, name=name, state=state).state / LEDGER).read()
        record = of_experiment(record, experiment)
        if export is not None:
            write(record, export)
    except (SiteProblem, LedgerError) as problem:
        fail(str(problem))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    if as_json:
        print(as_json_text(record))
    else:
        show(record, Console(highlight=False))
    if export is not None and not as_json:
        print(f"{export} written")


def approve(
    folder: Folder = Path("."),
    experiment: Annotated[
        str | None, typer.Argument(help="Its name; without it all are listed.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Experiment file that came in advance, to approve now.")
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take an approval back.")] = False,
    by: Annotated[str | None, typer.Option(help="Who decides; default: this user.")] = None,
    settings: Annotated[
        str | None, typer.Option(help="Which, where several of one name were asked for.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask once more.")] = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Show what a coordinator asks of this site in plain words, and approve it."""
    import getpass

    from rich.console import Console

    from fedrad.client.policy.approvals import Approvals
    from fedrad.client.policy.ledger import LedgerError
    from fedrad.client.problems import SiteProblem
    from fedrad.client.settings import open_site
    from fedrad.exchange.experiment import ExperimentError, read_experiment

    from . import approvals as approving

    console = Console(highlight=False)
    try:
        site = open_site(folder, name=name, state=state)
        if file is not None:
            given, text = read_experiment(file)
            asked = Approvals(site.state).keep(given, text)
        elif experiment is not None:
            asked = approving.find(site, experiment, settings)
        else:
            approving.show_all(site, console)
            return
        approving.show(asked, site, console)
        decided: approving.Decided = "revoked" if revoke else "approved"
        if asked.standing == decided:
            print(f"{asked.name} is {decided} already")
            return
        question = "Take the approval back?" if revoke else "Approve exactly this?"
        if not yes and not typer.confirm(question):
            fail("nothing was decided")
        Approvals(site.state).decide(asked, decided, by or getpass.getuser())
    except (ExperimentError, SiteProblem, LedgerError) as problem:
        fail(str(problem))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    print(f"{asked.name}: {decided}. The ledger has it; with other settings it would ask anew.")
