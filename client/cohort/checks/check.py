"""What a check is: one class per problem, with what it means and what to do about it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal, TypeVar

Severity = Literal["information", "warning", "refused"]
RANK: dict[Severity, int] = {"information": 0, "warning": 1, "refused": 2}

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Finding:
    """One thing that a check found, for the site's eyes only.

    `files`: groups of file names that belong together (a copy and its original), else of one.
    """

    text: str
    files: Sequence[tuple[str, ...]] = ()
    severity: Severity | None = None
    """Where it differs from the check's own."""


class Check(ABC, Generic[Subject]):
    """One problem that a site should know of before it takes part.

    `problem` says in a sentence what it does to a study, `remedy` what to do.
    """

    name: ClassVar[str]
    problem: ClassVar[str]
    remedy: ClassVar[str]
    severity: ClassVar[Severity] = "warning"

    @abstractmethod
    def findings(self, subject: Subject) -> Iterable[Finding]:
        """What was found; nothing where all is well."""


@dataclass(frozen=True)
class Result:
    """A check and what it found."""

    name: str
    problem: str
    remedy: str
    severity: Severity
    """The gravest of its findings; "information" where there is none."""
    findings: list[Finding] = field(default_factory=list)


def run(check: Check[Subject], subject: Subject) -> Result:
    """Run a check."""
    found = list(check.findings(subject))
    gravest: Severity = "information"
    for finding in found:
        gravest = max(gravest, finding.severity or check.severity, key=RANK.__getitem__)
    return Result(check.name, check.problem, check.remedy, gravest, found)
