"""Arguments that the commands of `fedrad-site` share."""

from pathlib import Path
from typing import Annotated

import typer

SITE_FOLDER = "Folder of the site, with its cohort.csv and site.toml."
SiteFolder = Annotated[Path, typer.Argument(help=SITE_FOLDER)]
SiteName = Annotated[
    str | None, typer.Option(help="Name of the site; needed where there is no site.toml.")
]
StateFolder = Annotated[
    Path | None,
    typer.Option(help="Folder for what the site stores; default: as site.toml says."),
]
