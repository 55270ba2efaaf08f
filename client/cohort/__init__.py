"""A site's cohort: from its spreadsheet to units, each patient's in one part of a division."""

from .division import Division, divide
from .groups import group_of
from .patients import Pseudonyms, numbered
from .table import Row, Table, find_by_uid, read_table
from .units import Cohort, Unit, index_rows, read_cohort, sift

__all__ = [
    "Cohort",
    "Division",
    "Pseudonyms",
    "Row",
    "Table",
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
