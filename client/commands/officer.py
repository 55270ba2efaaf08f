"""Commands of a hospital's data-protection officer: what has left, and what may run."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrad.system.commands import fail

from .options import (
    DecidedBy,
    KeyFile,
    SiteFolder,
    SiteName,
    StateFolder,
    Yes,
    open_private_site,
    read_key,
    this_user,
)

if TYPE_CHECKING:
    from fedrad.client.policy.ledger import LedgerContent


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
    head: Annotated[
        bool,
        typer.Option("--head", help="Print the head alone, one line to be kept outside this site."),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            help="File of kept heads, one a line, or - for the standard input: says what was "
            "removed from the ledger since."
        ),
    ] = None,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Show every message that has left this site, and verify that the record is unchanged."""
    from fedrad.client.policy.ledger import LEDGER, Ledger, check_ledger_is_there
    from fedrad.client.policy.ledger_heads import check_last_head, head_of
    from fedrad.client.policy.ledger_table import (
        filter_by_experiment,
        ledger_as_json,
        print_ledger,
        write_ledger,
    )
    from fedrad.client.settings import open_site
    from fedrad.system.terminal import PlainConsole

    site = open_site(folder, name=name, state=state)
    try:
        record = Ledger(site.state / LEDGER).read()
        if against is not None:
            _compare(record, against, site.name)
            return
        check_ledger_is_there(site.state)
        check_last_head(site.state)
        if head:
            print(head_of(site.name, record))
            return
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    record = filter_by_experiment(record, experiment)
    try:
        if as_json:
            print(ledger_as_json(record))
        else:
            print_ledger(record, PlainConsole())
    finally:  # also if the terminal takes no more
        if export is not None:
            write_ledger(record, export)
    if export is not None and not as_json:
        print(f"{export} written")


def _compare(record: "LedgerContent", against: Path, site: str) -> None:
    """Print what kept heads say of a ledger. Ends with status 2 if one contradicts it."""
    from fedrad.client.policy.ledger_heads import compare_with_heads, read_heads
    from fedrad.system.files import read_regular_text

    source = "standard input" if str(against) == "-" else str(against)
    try:
        text = sys.stdin.read() if str(against) == "-" else read_regular_text(against)
    except UnicodeDecodeError:
        fail(f"{source}: is not text")
    heads = read_heads(text, source)
    if contradicted := compare_with_heads(record, heads, site):
        fail("ALARM\n" + "\n".join(contradicted))
    print(
        f"The ledger has {len(record.entries)} lines and agrees with all heads of {site}: nothing "
        "before the last of them was removed or rewritten."
    )


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
    by: DecidedBy = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Last day of the approval, as 2027-06-30."),
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many runs may ask; one that the coordinator resumes is another one."
        ),
    ] = None,
    key: KeyFile = None,
    all_settings: Annotated[
        bool, typer.Option("--all-settings", help="Show every setting too, as it is approved.")
    ] = False,
    settings: Annotated[
        str | None,
        typer.Option(
            help="First characters of the settings' hash, where several experiments have the name."
        ),
    ] = None,
    yes: Yes = False,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Show in plain words what an experiment would do at this site, and approve it."""
    from fedrad.client.policy.approvals import Approvals, Decided
    from fedrad.client.policy.ledger_heads import write_head_of
    from fedrad.exchange.experiment import read_experiment
    from fedrad.system.terminal import PlainConsole

    from . import approvals as approving

    console = PlainConsole()
    site = open_private_site(folder, name=name, state=state)
    try:
        if until is not None and until.date() < datetime.now().astimezone().date():
            fail(f"--until {until:%Y-%m-%d}: that day is over")
        if revoke and (until or runs):
            fail("--until and --runs belong to an approval")
        if file is not None:
            asked = Approvals(site.state).given(*read_experiment(file))
        elif experiment is not None:
            asked = approving.find_experiment(site, experiment, settings)
        else:
            approving.list_experiments(site, console)
            return
        approving.show_experiment(asked, site, console, all_settings=all_settings)
        decided: Decided = "revoked" if revoke else "approved"
        limited = until is not None or runs is not None
        if asked.standing == decided and not limited and key is None:
            print(f"{asked.name} is {decided} already")
            return
        question = "Take the approval back?" if revoke else "Approve exactly this?"
        if not revoke:
            print(f"This approval is for {approving.limits_in_words(until, runs)}.")
        if not yes and not typer.confirm(question):
            fail("nothing was decided")
        Approvals(site.state).decide(
            asked,
            decided,
            by or this_user(),
            until=until.date() if until else None,
            runs=runs,
            key=read_key(key),
        )
        write_head_of(site)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    print(f"{asked.name}: {decided}; the ledger has it. ", end="")
    print(
        "Its next question is refused."
        if revoke
        else "Any change of its settings needs another approval."
    )
