"""The checks of a cohort, in the order in which a site should read them."""

from fedrad.client.cohort.evidence import Evidence

from .check import RANK, Check, Finding, Result, Severity, run
from .duplicates import Duplicates, TwoLabels, TwoNumbers
from .files import AfterOutcome, NoOrder, RepeatedRows, SetAside
from .images import Lateral, NotTheChest, Outliers, Remarks
from .numbers import FewUnits
from .shortcuts import EasyTask, Shortcuts

COHORT_CHECKS: tuple[Check[Evidence], ...] = (
    SetAside(),
    RepeatedRows(),
    TwoLabels(),
    TwoNumbers(),
    Duplicates(),
    AfterOutcome(),
    NoOrder(),
    Lateral(),
    NotTheChest(),
    Outliers(),
    Remarks(),
    FewUnits(),
    Shortcuts(),
    EasyTask(),
)

__all__ = ["COHORT_CHECKS", "RANK", "Check", "Evidence", "Finding", "Result", "Severity", "run"]
