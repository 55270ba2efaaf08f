"""Reads a list of patient numbers."""

from pathlib import Path

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site

from .spreadsheet import read_spreadsheet


def read_patient_list(file: Path, site: Site) -> list[str]:
    """The patient numbers in a file: those in the column of patients, by the name that the cohort
    table has for it, or one per line without a header.

    Raises SiteProblem("cohort") if the file cannot be read, or has several columns and none of
    them is the patients'.
    """
    sheet, column = read_spreadsheet(file), site.settings.columns.patient
    at = sheet.find(column)
    if at is not None:
        return [cells[at] for cells in sheet.rows]
    if len(sheet.header) > 1:
        raise SiteProblem(
            "cohort",
            f"{file}: has {len(sheet.header)} columns and none is named {column!r}; write one "
            "patient number per line, or name the column",
        )
    return [sheet.header[0], *(cells[0] for cells in sheet.rows)]
