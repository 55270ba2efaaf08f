"""What all commands of `fedrad` and `fedrad-site` share."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import click
import typer
from typer.core import TyperGroup

from .errors import UserError
from .private import set_privacy
from .program import CLOSED_PIPE
from .release import release
from .terminal import is_closed_pipe
from .text import visible


def fail(text: str) -> NoReturn:
    """Print what is wrong and end the command with status 2."""
    print(visible(text, lines=True), file=sys.stderr)
    raise SystemExit(2)


def open_to_others(path: Path) -> None:
    """Let all users of this machine read what a command wrote (`--for-others`)."""
    try:
        set_privacy(path, private=False)
    except OSError as error:
        fail(f"{path}: is written, and cannot be opened to others ({error.strerror})")


class CommandGroup(TyperGroup):
    """A group of commands that shows a UserError as its text, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            print(visible(error.for_command(), lines=True), file=sys.stderr)
            raise SystemExit(error.status) from None
        except BrokenPipeError as error:
            if is_closed_pipe(error):
                raise SystemExit(CLOSED_PIPE) from None
            # click would end in silence, as if it were the terminal's
            raise RuntimeError("a connection broke that is not the terminal's") from error


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fedrad {release()}")
        raise typer.Exit


ForOthers = Annotated[
    bool,
    typer.Option(
        "--for-others",
        help="Let other users of this machine read what is written; without it, only you can.",
    ),
]
PassphraseDescriptor = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        help="File descriptor from which to read the passphrase, such as 3 with `3<FILE`. Without "
        "it: the systemd credential, or the terminal.",
    ),
]
VersionOption = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
    ),
]
