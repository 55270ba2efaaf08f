"""`fedrad-site officer`: the key with which a data-protection officer signs decisions."""

from pathlib import Path
from typing import Annotated

import typer

from fedrad.system.commands import CommandGroup, fail

from .options import (
    DecidedBy,
    SiteFolder,
    SiteName,
    StateFolder,
    ask_passphrase,
    open_private_site,
    read_key,
    this_user,
)

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="The key with which the data-protection officer signs decisions at this site.",
)


@app.command()
def init(
    key: Annotated[
        Path,
        typer.Option(help="File to write the key to, for the officer alone; such as a USB stick."),
    ],
    folder: SiteFolder = Path("."),
    replaces: Annotated[
        Path | None, typer.Option(help="File of the key in use, if there is one; it signs the new.")
    ] = None,
    by: DecidedBy = None,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Make an officer's key. From then on, decisions count only if they are signed with it."""
    from fedrad.client.policy.ledger import check_ledger_is_there
    from fedrad.client.policy.officer_key import OfficerKey, pin_key, pinned_key

    if key.exists():
        fail(f"{key}: exists already; name a new file for the key")
    site = open_private_site(folder, name=name, state=state)
    check_ledger_is_there(site.state)
    if pinned_key(site.state) is not None and replaces is None:
        fail("an officer's key is set up already: --replaces FILE names it, and signs the new one")
    replaced = read_key(replaces)
    passphrase = ask_passphrase("Passphrase for the new key, at least 12 characters", twice=True)
    try:
        made = OfficerKey.create(key, passphrase)
    except OSError as error:
        fail(f"{key}: cannot be written: {error.strerror}")
    pin_key(site.state, made, by or this_user(), replaced=replaced)
    print(
        f"{key} written: keep it and its passphrase where nobody else has them, and a copy of both "
        "in a safe. Without it, the key can never be replaced.\n"
        f"Public key, also in {site.state}: {made.public}\n"
        "What was decided without it admits nothing any more. Now:\n"
        "  `fedrad-site policy accept FOLDER --key FILE`\n"
        "  `fedrad-site approve FOLDER NAME --key FILE` for each experiment that may go on"
    )


@app.command()
def show(folder: SiteFolder = Path("."), name: SiteName = None, state: StateFolder = None) -> None:
    """Show the public key with which decisions at this site must be signed."""
    from fedrad.client.policy.officer_key import pinned_key
    from fedrad.client.settings import open_site

    key = pinned_key(open_site(folder, name=name, state=state).state)
    print(key or "No officer's key is set up: decisions here are not signed.")
