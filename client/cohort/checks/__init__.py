"""The checks of a cohort, in the order in which a site should read their results."""

from fedrad.client.cohort.evidence import Evidence

from .check import SEVERITY_RANK, Check, CheckFinding, CheckResult, Severity, run_check
from .duplicates import ContradictingLabels, DuplicateImages, SameImageOfTwoPatients
from .files import DatesOfFiles, ImagesAfterOutcome, UnusableFiles
from .images import GreyScales, LateralViews, NotFrontalChest, Outliers, ReadingRemarks
from .numbers import TooFewUnits
from .shortcuts import EasyTask, Shortcuts
from .table import (
    FileNames,
    NearlyOutcomes,
    PatientNumbers,
    RepeatedRows,
    UnorderedImages,
    UnreadDates,
    ValuesInNoGroup,
    WholeTable,
)

COHORT_CHECKS: tuple[Check[Evidence], ...] = (
    WholeTable(),
    PatientNumbers(),
    NearlyOutcomes(),
    ValuesInNoGroup(),
    UnusableFiles(),
    FileNames(),
    RepeatedRows(),
    ContradictingLabels(),
    SameImageOfTwoPatients(),
    DuplicateImages(),
    UnorderedImages(),
    UnreadDates(),
    DatesOfFiles(),
    ImagesAfterOutcome(),
    LateralViews(),
    NotFrontalChest(),
    Outliers(),
    GreyScales(),
    ReadingRemarks(),
    TooFewUnits(),
    Shortcuts(),
    EasyTask(),
)

__all__ = [
    "COHORT_CHECKS",
    "SEVERITY_RANK",
    "Check",
    "CheckFinding",
    "CheckResult",
    "Evidence",
    "Severity",
    "run_check",
]
