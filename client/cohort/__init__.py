"""A site's cohort: from its spreadsheet to units on either side of a split."""

from .folds import Folds
from .patients import Pseudonyms, numbered
from .split import PARTS, Patient, SplitFile, assign_folds, assign_parts, split
from .table import Row, Table, find_by_uid, read_table
from .units import Cohort, Unit, index_rows, read_cohort, sift

__all__ = [
    "PARTS",
    "Cohort",
    "Folds",
    "Patient",
    "Pseudonyms",
    "Row",
    "SplitFile",
    "Table",
    "Unit",
    "assign_folds",
    "assign_parts",
    "find_by_uid",
    "index_rows",
    "numbered",
    "read_cohort",
    "read_table",
    "sift",
    "split",
]
