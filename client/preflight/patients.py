"""Checks of what a site decides about columns and patients: the closed list, the budget, and who
withdrew."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedrad.client.cohort.checks import Check, CheckFinding
from fedrad.client.cohort.evidence import Evidence
from fedrad.client.policy.columns import columns_line
from fedrad.client.settings import Site

GROUPS = ("sex", "age")
"""Columns of `[columns]` in site.toml that experiments use for groups."""


@dataclass(frozen=True)
class ColumnList:
    """The list that a site has, the one that is proposed for its table, and whether the site has
    joined a coordinator and so needs one."""

    admitted: tuple[str, ...] | None
    proposed: list[str]
    needed: bool

    @classmethod
    def of(cls, site: Site, evidence: Evidence, asked: Sequence[str] | None) -> "ColumnList":
        """`asked`: columns of an experiment; without one, all that look like outcomes or groups."""
        groups = [role for role in GROUPS if any(evidence.column(role))]
        proposed = [*evidence.table.outcomes, *groups] if asked is None else list(asked)
        return cls(site.settings.policy.columns, proposed, site.joined)


class ColumnsCheck(Check[ColumnList]):
    """Whether the site has closed the list of columns that experiments may use."""

    name = "columns for experiments"
    problem = "Without the list, a site that has joined a coordinator refuses every experiment."
    remedy = "Write the line in site.toml under [policy], without what no experiment may use."
    severity = "warning"

    def findings(self, subject: ColumnList) -> list[CheckFinding]:
        """The proposed line, if there is no list."""
        if subject.admitted is not None:
            return []
        line = columns_line(subject.proposed)
        text = f"policy.columns is not set; for this table: {line}"
        return [CheckFinding(text, severity=None if subject.needed else "information")]


class WithdrawnCheck(Check[int]):
    """How many patients withdrew."""

    name = "withdrawn patients"
    problem = "Patients withdrew."
    remedy = "Nothing: their rows are passed over."
    severity = "information"

    def findings(self, subject: int) -> list[CheckFinding]:
        """Their number in the table, if any."""
        text = f"{subject} patients of the table withdrew; their rows are passed over"
        return [CheckFinding(text)] if subject else []


class BudgetCheck(Check[int]):
    """How many patients an experiment leaves out because they have reached a limit."""

    name = "budget of patients"
    problem = "Patients have reached a limit of policy.budget by other experiments."
    remedy = "Nothing: they are left out of this experiment, and the coordinator learns how many."
    severity = "information"

    def findings(self, subject: int) -> list[CheckFinding]:
        """Their number, if any."""
        text = (
            f"{subject} patients have reached a limit of policy.budget and would be left out; the "
            "units above still count them"
        )
        return [CheckFinding(text)] if subject else []
