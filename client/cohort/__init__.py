"""A site's cohort: from its spreadsheet to units, and their division into parts by patient."""

from .division import Division, divide
from .groups import group_of
from .instance_uids import find_by_uid
from .patients import PatientDraw, Pseudonyms, patient_numbers
from .table import CohortRow, CohortTable, read_table
from .units import Cohort, Unit, index_rows, read_cohort, remove_unusable
from .withdrawn import Withdrawn, record_withdrawn

__all__ = [
    "Cohort",
    "CohortRow",
    "CohortTable",
    "Division",
    "PatientDraw",
    "Pseudonyms",
    "Unit",
    "Withdrawn",
    "divide",
    "find_by_uid",
    "group_of",
    "index_rows",
    "patient_numbers",
    "read_cohort",
    "read_table",
    "record_withdrawn",
    "remove_unusable",
]
