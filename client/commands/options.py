"""What the commands of `fedrad-site` share."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

Folder = Annotated[Path, typer.Argument(help="The site's folder.")]
SiteName = Annotated[str | None, typer.Option(help="Site name, where there is no site.toml.")]
StateFolder = Annotated[
    Path | None, typer.Option(help="State folder, where it is not that of site.toml.")
]


def fail(text: str) -> NoReturn:
    """End with a message and status 2."""
    print(text, file=sys.stderr)
    raise SystemExit(2)
