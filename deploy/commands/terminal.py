"""What the commands of `fedrad` share on the terminal."""

import logging
import shutil
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler

Folder = Annotated[Path, typer.Argument(help="Folder of an experiment.")]


def write_template(template: Path, file: Path) -> None:
    """Copy a commented starting file to where there is none yet."""
    if file.exists():
        fail(f"{file}: exists already")
    if not file.parent.is_dir():
        fail(f"{file.parent}: no such folder")
    shutil.copyfile(template, file)
    print(f"{file} written; edit it, the comments say how")


def show_progress() -> None:
    """Log lines of fedrad to the terminal; warnings of the libraries too."""
    handler = RichHandler(
        console=Console(stderr=True), show_path=False, show_level=False, log_time_format="%H:%M:%S"
    )
    logging.getLogger("fedrad").addHandler(handler)
    logging.getLogger("fedrad").setLevel(logging.INFO)


def fail(text: str) -> NoReturn:
    """Say what is wrong and end with status 2."""
    Console(stderr=True).print("[bold red]refused[/]", highlight=False)
    print(text, file=sys.stderr)
    raise SystemExit(2)
