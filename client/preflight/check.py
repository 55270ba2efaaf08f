"""`fedrad-site check` on the terminal: runs the inspection, shows it, and says how it ended."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fedrad.client.cohort.checks import SEVERITY_RANK, Check, CheckFinding, CheckResult, run_check
from fedrad.client.cohort.inspection import Inspection, inspect
from fedrad.client.cohort.page import render_page
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment

from .machine import check_machine

MARKS = {"information": "[dim]i[/]", "warning": "[yellow]![/]", "refused": "[bold red]x[/]"}
WORDS = {
    "information": "[green]OK[/]      ",
    "warning": "[yellow]warning[/] ",
    "refused": "[bold red]failure[/] ",
}
LISTED = 5


class TakingPart(Check[SiteProblem | None]):
    """Device, base weights and all else that a site says when it is asked to take part."""

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
    """Check a site, write check.html, and show what was found. Returns the exit status.

    Raises SiteProblem where there is nothing to inspect.
    """
    logging.getLogger("fedrad").setLevel(logging.ERROR)  # findings say it better
    machine = check_machine(site)
    if not as_json:
        show_machine(machine, Console(highlight=False))
    screen = Console(stderr=True)
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

        found, evidence, pictures = inspect(site, experiment, progress)
        page = html or site.state / "check.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(render_page(found, evidence, pictures), "utf-8")
    least = evidence.minimum
    if experiment is not None:
        found = _with_readiness(found, site, experiment)
    if as_json:
        found = replace(found, results=[*machine, *found.results])
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        show(found, page, least, Console(highlight=False))
    return max(found.status, *(SEVERITY_RANK[result.severity] for result in machine))


def show_machine(results: Sequence[CheckResult], console: Console) -> None:
    """Print what was found of this machine and its way to the coordinator, a line each."""
    for result in results:
        for finding in result.findings:
            severity = finding.severity or result.severity
            console.print(WORDS[severity], end=" ")
            console.print(f"{result.name}: {finding.text}", markup=False, soft_wrap=True)
        if result.severity != "information":
            console.print(f"         → {result.remedy}", markup=False, soft_wrap=True)
    console.print()


def _with_readiness(found: Inspection, site: Site, experiment: Experiment) -> Inspection:
    """Add word for word what the coordinator would learn, or why the site would refuse."""
    # these take seconds, and only experiments need them
    from fedrad.client.participant.participant import Participant
    from fedrad.client.participant.site_data import SiteData

    problem: SiteProblem | None = None
    readiness: dict[str, Any] | None = None
    try:
        participant = Participant(SiteData(site, experiment, record_division=False))
        readiness = participant.ready().model_dump(mode="json", exclude={"kind"})
    except SiteProblem as error:
        problem = error
    results = [*found.results, run_check(TakingPart(), problem)]
    return replace(found, readiness=readiness, results=results)


def show(found: Inspection, page: Path, least: int, console: Console) -> None:
    """Print an inspection for a person."""
    about = found.table
    console.print(
        f"[bold]{found.site}[/]: {about['images']} images of {about['patients']} patients "
        f"({about['encoding']}); outcomes {', '.join(found.outcomes)}; index image: "
        f"{found.index_image}"
    )
    if found.division:
        console.print(f"{found.division}.", markup=False)
    table = Table("units", "outcome", "with", "without", "unknown", box=None)
    for part, outcomes in found.units.items():
        for outcome, counts in outcomes.items():
            table.add_row(part, outcome, *map(str, counts))
    console.print(table)
    for result in found.results:
        _show_result(result, console)
    if found.readiness is not None:
        console.print("\nThe coordinator would learn:")
        print(json.dumps(found.readiness, indent=1))
        console.print(
            f"null: withheld, as a class has fewer than {least} patients in that part of the split"
        )
    console.print("\nAll that follows from this stays here. Images and files: ", end="")
    console.print(str(page.resolve()), soft_wrap=True, markup=False)
    ends = {0: "No warnings.", 1: "[yellow]Warnings.[/]", 2: "[bold red]Refused.[/]"}
    console.print(ends[found.status] + " Research use only; not a medical device.")


def _show_result(result: CheckResult, console: Console) -> None:
    if not result.findings:
        console.print(f"[green]·[/] {result.name}: nothing found")
        return
    for finding in result.findings:
        severity = finding.severity or result.severity
        console.print(MARKS[severity], end=" ")
        console.print(f"{result.name}: {finding.text}", markup=False)
        for group in finding.files[:LISTED] if severity != "information" else ():
            console.print(f"    {' = '.join(group)}", style="dim", markup=False, soft_wrap=True)
        if severity != "information" and len(finding.files) > LISTED:
            console.print(f"    and {len(finding.files) - LISTED} more", style="dim")
    if result.severity != "information":
        console.print(f"  → {result.remedy}", markup=False)
