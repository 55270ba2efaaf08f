"""What all commands of `fedrad` and `fedrad-site` share."""

import sys
from typing import Annotated, Any, NoReturn

import click
import typer
from typer.core import TyperGroup

from .errors import UserError
from .release import release


def fail(text: str) -> NoReturn:
    """Print what is wrong and end the command with status 2."""
    print(text, file=sys.stderr)
    raise SystemExit(2)


class CommandGroup(TyperGroup):
    """A group of commands that shows a UserError as its text, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            print(error.for_command(), file=sys.stderr)
            raise SystemExit(error.status) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fedrad {release()}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
    ),
]
