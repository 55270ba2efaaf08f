"""Arguments, quick checks and log output that the commands of `fedrad` share."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from fedrad.system.commands import fail
from fedrad.system.files import write_whole


def _readable(file: Path) -> Path:
    """Refuse a faulty experiment file before slow libraries are imported."""
    from fedrad.exchange.experiment import read_experiment

    read_experiment(file)
    return file


ExperimentFile = Annotated[Path, typer.Argument(help="Experiment file (TOML).", callback=_readable)]
ResultsFolder = Annotated[Path, typer.Argument(help="Folder with the results of an experiment.")]
Sites = Annotated[
    list[str],
    typer.Option(
        "--site",
        help="A site, as NAME=FOLDER; the folder holds its cohort.csv. Repeat for each site.",
    ),
]


def folders_of(options: list[str]) -> dict[str, Path]:
    """Name -> folder of each site, from options of the form NAME=FOLDER."""
    sites: dict[str, Path] = {}
    for option in options:
        name, equals, folder = option.partition("=")
        if not equals or not name or not folder:
            fail(f"--site {option}: write NAME=FOLDER")
        if name in sites:
            fail(f"--site {option}: a site named {name!r} is given already")
        sites[name] = Path(folder)
    return sites


def check_summary(folder: Path) -> None:
    """Refuse a folder without results before slow libraries are imported."""
    if not (folder / "summary.json").is_file():
        fail(f"{folder}: holds no summary.json; give the folder of an experiment")


def write_template(template: Path, file: Path) -> None:
    """Copy a commented template to a new file."""
    if os.path.lexists(file):
        fail(f"{file}: exists already")
    if not file.parent.is_dir():
        fail(f"{file.parent}: no such folder")
    write_whole(file, template.read_bytes())
    print(f"{file} written; edit it, the comments say how")


def show_progress() -> None:
    """Show the log lines of fedrad on the terminal, and the libraries' warnings."""
    from rich.logging import RichHandler

    from fedrad.system.terminal import PlainConsole

    handler = RichHandler(
        console=PlainConsole(stderr=True),
        show_path=False,
        show_level=False,
        log_time_format="%H:%M:%S",
    )
    logging.getLogger("fedrad").addHandler(handler)
    logging.getLogger("fedrad").setLevel(logging.INFO)
