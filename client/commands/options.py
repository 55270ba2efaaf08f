"""Arguments that the commands of `fedrad-site` share."""

import getpass
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrad.system.commands import fail

if TYPE_CHECKING:
    from fedrad.client.policy.officer_key import OfficerKey
    from fedrad.client.settings import Site

SITE_FOLDER = "Folder of the site, with its cohort.csv and site.toml."
SiteFolder = Annotated[Path, typer.Argument(help=SITE_FOLDER)]
SiteName = Annotated[
    str | None, typer.Option(help="Name of the site; needed where there is no site.toml.")
]
StateFolder = Annotated[
    Path | None,
    typer.Option(help="Folder for what the site stores; default: as site.toml says."),
]
DecidedBy = Annotated[
    str | None, typer.Option(help="Name of the person who decides; default: this user.")
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="File of the officer's key, with which the decision is signed. Needed where such a "
        "key is set up (`fedrad-site officer init`).",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Decide without asking for confirmation.")]


def open_private_site(folder: Path, *, name: str | None, state: Path | None = None) -> "Site":
    """Open a site for a command that reads images or writes into the state folder.

    Temporary files of this process then lie in the state folder too. Raises SiteProblem if other
    users of this machine can reach into it.
    """
    from fedrad.client.policy.integrity import check_state_folder
    from fedrad.client.settings import open_site
    from fedrad.system.private import use_temporary_folder

    site = open_site(folder, name=name, state=state)
    check_state_folder(site)
    try:
        use_temporary_folder(site.state)
    except OSError as error:
        fail(f"{error.filename}: cannot be made: {error.strerror}")
    return site


def this_user() -> str:
    """Name of the account that runs the command; its number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.geteuid()}"


def read_key(file: Path | None) -> "OfficerKey | None":
    """The officer's key of a file, whose passphrase is asked for; None without a file."""
    from fedrad.client.policy.officer_key import OfficerKey

    if file is None:
        return None
    if not file.is_file():
        fail(f"{file}: no such file; --key names the file of the officer's key")
    return OfficerKey.read(file, ask_passphrase("Passphrase of the officer's key"))


def ask_passphrase(question: str, *, twice: bool = False) -> str:
    """Ask for a passphrase, which a terminal does not show; `twice`: for a new one."""
    try:
        with warnings.catch_warnings():  # a pipe, which shows nothing anyway, is not the news
            warnings.simplefilter("ignore", getpass.GetPassWarning)
            answer: str = typer.prompt(question, hide_input=True, confirmation_prompt=twice)
    except typer.Abort:
        fail("no passphrase was given, so nothing was decided: run this command on a terminal")
    return answer
