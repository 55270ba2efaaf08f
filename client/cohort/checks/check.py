"""The interface of a check: one class per problem, with its consequence and its remedy."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal, TypeVar

Severity = Literal["information", "warning", "refused"]
SEVERITY_RANK: dict[Severity, int] = {"information": 0, "warning": 1, "refused": 2}

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class CheckFinding:
    """One finding of a check, which stays at the site.

    `files`: groups of file names that belong together, such as a copy and its original; a file that
    belongs to no other is a group of one.
    """

    text: str
    files: Sequence[tuple[str, ...]] = ()
    severity: Severity | None = None
    """None for the severity of the check."""


class Check(ABC, Generic[Subject]):
    """One problem that a site should know of before it takes part.

    `problem`: a sentence on what it does to a study. `remedy`: what the site can do about it.
    """

    name: ClassVar[str]
    problem: ClassVar[str]
    remedy: ClassVar[str]
    severity: ClassVar[Severity] = "warning"

    @abstractmethod
    def findings(self, subject: Subject) -> Iterable[CheckFinding]:
        """The findings; none if there is no problem."""


@dataclass(frozen=True)
class CheckResult:
    """A check with its findings."""

    name: str
    problem: str
    remedy: str
    severity: Severity
    """The highest severity of its findings; "information" without findings."""
    findings: list[CheckFinding] = field(default_factory=list)


def run_check(check: Check[Subject], subject: Subject) -> CheckResult:
    """Run a check on its subject."""
    findings = list(check.findings(subject))
    highest: Severity = "information"
    for finding in findings:
        highest = max(highest, finding.severity or check.severity, key=SEVERITY_RANK.__getitem__)
    return CheckResult(check.name, check.problem, check.remedy, highest, findings)
