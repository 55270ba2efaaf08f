"""Finds the images of single patients by their numbers, also in a table that has other faults."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site

from .file_names import SiteFiles
from .instance_uids import InstanceUids, files_by_uid
from .spelling import read_number
from .spreadsheet import read_spreadsheet


@dataclass(frozen=True)
class ListedPatient:
    """A patient as the cohort table lists it: number of rows, and those of its files that exist.

    Rows count whose cell is the number, or another spelling of it by the site's rule.
    """

    rows: int
    files: list[Path]


def listed_patients(
    site: Site, numbers: Collection[str], instance_uids: InstanceUids
) -> tuple[dict[str, ListedPatient], list[str]]:
    """The patients of some numbers in the cohort table.

    Parameters
    ----------
    site
        The site with its table.
    numbers
        Patient numbers, by the site's rule of spelling.
    instance_uids
        As for `find_by_uid`; called if rows of these patients name no file.

    Returns
    -------
    tuple
        Number -> patient, for those in the table; and all patient numbers of the table.

    Raises
    ------
    SiteProblem
        If the table cannot be read or has no column of patients.
    """
    sheet, columns = read_spreadsheet(site.cohort), site.settings.columns
    patient = sheet.find(columns.patient)
    if patient is None:
        raise SiteProblem(
            "cohort", f"{sheet.path}: no column {columns.patient!r}; columns are {sheet.header}"
        )
    file, uid = sheet.find(columns.file), sheet.find(columns.instance_uid)
    rows: dict[str, list[list[str]]] = {}
    for cells in sheet.rows:
        rows.setdefault(_number(site, cells[patient]), []).append(cells)
    chosen = {number: rows[number] for number in numbers if number in rows}
    on_disk = SiteFiles(site.folder)
    found = {
        number: [f for cells in of if file is not None and (f := _existing(on_disk, cells[file]))]
        for number, of in chosen.items()
    }
    wanted = {
        cells[uid]: number
        for number, of in chosen.items()
        for cells in of
        if uid is not None and cells[uid] and not (file is not None and cells[file])
    }
    if wanted:
        for one, files in files_by_uid(site, instance_uids).items():
            if one in wanted:
                found[wanted[one]] += files
    patients = {number: ListedPatient(len(of), found[number]) for number, of in chosen.items()}
    return patients, list(rows)


def _number(site: Site, cell: str) -> str:
    """The number in a cell; the cell itself, if it holds none."""
    try:
        return read_number(cell, site.settings.patient_numbers)
    except ValueError:
        return cell


def _existing(files: SiteFiles, reference: str) -> Path | None:
    """The file of a reference, if it is within the site's folder and exists."""
    try:
        return files.find(reference, "").file if reference else None
    except SiteProblem:
        return None
