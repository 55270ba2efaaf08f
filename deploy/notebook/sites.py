"""`fedrad.read_site`: the cohort table of a site as a frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fedrad.client.cohort import Pseudonyms, patient_numbers, read_table
from fedrad.client.settings import open_site

from . import AnyPath


@dataclass(frozen=True)
class SiteImages:
    """The images of a site, as its cohort table lists them.

    Attributes
    ----------
    name
        Name of the site.
    folder
        Folder of the site.
    outcomes
        Columns of the table that hold an outcome.
    images
        One row for each image: `file` (path within the folder; a SOP Instance UID if the table has
        no paths), `patient` (number of the patient, from 0; it identifies nobody and may change
        with the table), each outcome as 0, 1 or NaN for unknown, and the other columns of the
        table as text.
    """

    name: str
    folder: Path
    outcomes: tuple[str, ...]
    images: pd.DataFrame


def read_site(
    folder: AnyPath, *, name: str | None = None, outcomes: Sequence[str] | None = None
) -> SiteImages:
    """Read the cohort table of a site. No image is opened, and nothing is written.

    Parameters
    ----------
    folder
        Folder of the site: its cohort table and, optionally, `site.toml`.
    name
        Name of the site; default: that of `site.toml`, else the name of the folder.
    outcomes
        Columns of the table to take as outcomes; default: all columns that hold 0, 1 or nothing
        and are not known to mean something else (`sex`, for example).

    Returns
    -------
    SiteImages
        The images and their patients.

    Raises
    ------
    UserError
        If there is no such folder or table, or the table has a fault; the text names the line.

    Examples
    --------
    >>> site = fedrad.read_site("data/north")
    >>> site.images.groupby("patient")["bpd"].max().mean()
    0.25
    """
    place = Path(folder)
    if name is None and not (place / "site.toml").is_file():
        name = place.resolve().name
    site = open_site(place, name=name)
    table = read_table(site, outcomes, Pseudonyms.temporary())
    patients = patient_numbers(row.patient for row in table.rows)
    rows = [
        {"file": row.name, "patient": patient}
        | dict(zip(table.outcomes, row.labels, strict=True))
        | {k: v for k, v in row.values.items() if k not in ("file", "patient", *table.outcomes)}
        for row, patient in zip(table.rows, patients.tolist(), strict=True)
    ]
    return SiteImages(site.name, site.folder, table.outcomes, pd.DataFrame(rows))
