"""A site's cohort: from its spreadsheet to units, and their division into parts by patient."""

from .division import Division, divide
from .groups import group_of
from .patients import Pseudonyms, numbered
from .table import CohortRow, CohortTable, find_by_uid, read_table
from .units import Cohort, Unit, index_rows, read_cohort, sift

__all__ = [
    "Cohort",
    "CohortRow",
    "CohortTable",
    "Division",
    "Pseudonyms",
    "Unit",
    "divide",
    "find_by_uid",
    "group_of",
    "index_rows",
    "numbered",
    "read_cohort",
    "read_table",
    "sift",
]
