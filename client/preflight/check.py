"""`fedrad-site check`: inspects a site, prints the results and writes `check.html`."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from fedrad.client.cohort.checks import SEVERITY_RANK, Check, CheckFinding, CheckResult, run_check
from fedrad.client.cohort.inspection import Inspection, inspect
from fedrad.client.cohort.page import render_page
from fedrad.client.participant.withdrawal import withdrawn_now
from fedrad.client.policy.columns import check_columns, columns_of
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment
from fedrad.system.files import write_whole
from fedrad.system.folders import make_folder
from fedrad.system.terminal import PlainConsole

from .machine import check_machine
from .patients import BudgetCheck, ColumnList, ColumnsCheck, WithdrawnCheck

SEVERITY_MARKS: dict[str, Text] = {
    "information": Text("i", "dim"),
    "warning": Text("!", "yellow"),
    "refused": Text("x", "bold red"),
}
SEVERITY_LABELS: dict[str, Text] = {
    "information": Text("OK      ", "green"),
    "warning": Text("warning ", "yellow"),
    "refused": Text("failure ", "bold red"),
}
FILES_PER_FINDING = 5
"""Files that are printed for each finding; the page has all of them."""


class ParticipationCheck(Check[SiteProblem | None]):
    """Device, base weights and everything else that a site needs to take part."""

    name = "taking part"
    problem = "The site would refuse this experiment."
    remedy = "Mend what is named, and check again."
    severity = "refused"

    def findings(self, subject: SiteProblem | None) -> list[CheckFinding]:
        """The problem that the site would have, if any."""
        return [CheckFinding(str(subject))] if subject else []


def check_site(
    site: Site, experiment: Experiment | None, html: Path | None, *, as_json: bool
) -> int:
    """Check a site, write check.html and print the results.

    Parameters
    ----------
    site
        The site.
    experiment
        Experiment to check the site for; None for a check without one.
    html
        File for the page; None for `check.html` in the state folder.
    as_json
        Whether to print JSON instead of text.

    Returns
    -------
    int
        Exit status: 0 without warnings, 1 with warnings, 2 if the site would not take part.

    Raises
    ------
    SiteProblem
        If the cohort cannot be inspected at all; or, after the results are printed, if check.html
        cannot be written.
    """
    logging.getLogger("fedrad").setLevel(logging.ERROR)  # the findings report it more clearly
    machine = check_machine(site)
    if not as_json:
        print_machine(machine, PlainConsole())
    screen = PlainConsole(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("reading the table", total=None)

        def progress(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of)

        withdrawn_now(site)
        inspection, evidence, pictures = inspect(site, experiment, progress)
        asked = None if experiment is None else columns_of(experiment)
        decided = [
            run_check(ColumnsCheck(), ColumnList.of(site, evidence, asked)),
            run_check(WithdrawnCheck(), evidence.table.withdrawn),
        ]
        inspection = replace(inspection, results=[*inspection.results, *decided])
        page = html or site.state / "check.html"
        text = render_page(inspection, evidence, pictures)
    least = evidence.minimum
    if experiment is not None:
        inspection = _with_readiness(inspection, site, experiment)
    status = max(inspection.status, *(SEVERITY_RANK[result.severity] for result in machine))
    try:
        if as_json:
            inspection = replace(inspection, results=[*machine, *inspection.results])
            print(json.dumps(inspection.to_json(), indent=1), flush=True)
        else:
            print_inspection(inspection, page, least, PlainConsole())
            print_end(status, inspection.status, PlainConsole())
    finally:  # also if the terminal takes no more
        _write_page(page, text)
    return status


def _write_page(page: Path, text: str) -> None:
    """Write check.html. Raises SiteProblem("storage")."""
    try:
        make_folder(page.parent)
        write_whole(page, text)
    except OSError as error:
        raise SiteProblem(
            "storage",
            f"{page}: cannot be written ({error.strerror}); --html names another file",
        ) from error


def print_machine(results: Sequence[CheckResult], console: Console) -> None:
    """Print the checks of this machine and of the route to the coordinator, one line each."""
    for result in results:
        for finding in result.findings:
            severity = finding.severity or result.severity
            console.print(SEVERITY_LABELS[severity], end=" ")
            console.print(f"{result.name}: {finding.text}", soft_wrap=True)
        if result.severity != "information":
            console.print(f"         → {result.remedy}", soft_wrap=True)
    console.print()


def _with_readiness(inspection: Inspection, site: Site, experiment: Experiment) -> Inspection:
    """Add exactly what the coordinator would receive, or the reason why the site would refuse."""
    # these take seconds, and only experiments need them
    from fedrad.client.participant.participant import Participant
    from fedrad.client.participant.site_data import SiteData

    problem: SiteProblem | None = None
    readiness: dict[str, Any] | None = None
    left_out = 0
    try:
        check_columns(site, experiment)
        participant = Participant(SiteData(site, experiment, record_division=False))
        readiness = participant.ready().model_dump(mode="json", exclude={"kind"})
        left_out = len(participant.data.left_out)
    except SiteProblem as error:
        problem = error
    results = [
        *inspection.results,
        run_check(BudgetCheck(), left_out),
        run_check(ParticipationCheck(), problem),
    ]
    return replace(inspection, readiness=readiness, results=results)


def print_inspection(inspection: Inspection, page: Path, least: int, console: Console) -> None:
    """Print an inspection as text.

    `page`: the file of the page. `least`: fewest units of a class about which figures are released.
    """
    facts = inspection.table
    console.print(inspection.site, style="bold", end="")
    console.print(
        f": {facts['counted']} ({facts['encoding']}); outcomes {', '.join(inspection.outcomes)}; "
        f"index image: {inspection.index_image}"
    )
    if inspection.division:
        console.print(f"{inspection.division}.")
    table = Table("units", "outcome", "with", "without", "unknown", box=None)
    for part, outcomes in inspection.units.items():
        for outcome, counts in outcomes.items():
            table.add_row(part, outcome, *map(str, counts))
    console.print(table)
    for result in inspection.results:
        _print_result(result, console)
    if inspection.readiness is not None:
        console.print("\nThe coordinator would learn:")
        print(json.dumps(inspection.readiness, indent=1))
        console.print(
            f"null: withheld, as a class has fewer than {least} patients in that part of the split"
        )
    console.print("\nAll that follows from this stays here. Images and files: ", end="")
    console.print(str(page.resolve()), soft_wrap=True)


def print_end(status: int, of_cohort: int, console: Console) -> None:
    """Print the last line: how a check ended, and where to look if it is not the cohort alone."""
    ends = {0: ("No warnings.", ""), 1: ("Warnings.", "yellow"), 2: ("Refused.", "bold red")}
    above = " What is wrong with this machine or the route is said above the cohort."
    use = " Research use only; not a medical device."
    console.print(Text.assemble(ends[status], above if status > of_cohort else "", use))


def _print_result(result: CheckResult, console: Console) -> None:
    if not result.findings:
        console.print(Text.assemble(("·", "green"), f" {result.name}: nothing found"))
        return
    for finding in result.findings:
        severity = finding.severity or result.severity
        console.print(SEVERITY_MARKS[severity], end=" ")
        console.print(f"{result.name}: {finding.text}")
        for group in finding.files[:FILES_PER_FINDING] if severity != "information" else ():
            console.print(f"    {' = '.join(group)}", style="dim", soft_wrap=True)
        if severity != "information" and len(finding.files) > FILES_PER_FINDING:
            console.print(f"    and {len(finding.files) - FILES_PER_FINDING} more", style="dim")
    if result.severity != "information":
        console.print(f"  → {result.remedy}")
