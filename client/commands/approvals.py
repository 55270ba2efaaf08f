"""`fedrad-site approve` on the terminal."""

from datetime import datetime
from typing import Literal

from rich.console import Console
from rich.table import Table

from fedrad.client.participant.budget_words import budget_sentence
from fedrad.client.policy.approvals import ApprovalRequest, Approvals
from fedrad.client.policy.plain_words import describe_experiment
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import parse_experiment

Decided = Literal["approved", "revoked"]


def list_experiments(site: Site, console: Console) -> None:
    """List the experiments that this site was asked to join, and what was decided on each."""
    asked = Approvals(site.state).all()
    if not asked:
        console.print("No experiment was asked for yet.")
        return
    table = Table("experiment", "settings", "asked for", "stands", "by", "since", box=None)
    for one in asked:
        last = one.decisions[-1] if one.decisions else None
        table.add_row(
            one.name,
            one.identity[:12],
            _minute(one.asked),
            one.standing,
            last.by if last else "",
            _minute(last.time) if last else "",
        )
    console.print(table)
    if any(not one.decisions for one in asked):
        console.print(
            "`fedrad-site approve FOLDER NAME` shows what would be done, and approves it."
        )
    if not site.settings.policy.approval:
        console.print("policy.approval = false: experiments run here without being approved.")


def find_experiment(site: Site, name: str, settings: str | None) -> ApprovalRequest:
    """The experiment of a name that this site was asked to join.

    Parameters
    ----------
    site
        This site.
    name
        Name of the experiment.
    settings
        First characters of its identity (the hash of its settings); None if the name is enough.

    Raises
    ------
    SiteProblem
        If there is no such experiment, or more than one.
    """
    named = [one for one in Approvals(site.state).all() if one.name == name]
    named = [one for one in named if one.identity.startswith(settings or "")]
    if not named:
        raise SiteProblem("approval", f"{name!r}: this site was not asked for such an experiment")
    if len(named) > 1:
        which = ", ".join(
            f"{one.identity[:12]} ({one.standing}, asked for {_minute(one.asked)})" for one in named
        )
        raise SiteProblem(
            "approval", f"{name!r}: asked for with several settings; say which: --settings {which}"
        )
    return named[0]


def show_experiment(asked: ApprovalRequest, site: Site, console: Console) -> None:
    """Show an experiment in plain words. Raises ExperimentError if this version cannot read it."""
    experiment = parse_experiment(asked.text)
    console.print(
        f"[bold]{asked.name}[/], settings {asked.identity[:12]}, asked for {_minute(asked.asked)}"
    )
    sections = [
        *describe_experiment(experiment, site.settings.policy),
        ("What each patient has been in before", budget_sentence(site, experiment)),
    ]
    for heading, sentences in sections:
        console.print(f"\n[bold]{heading}[/]")
        for sentence in sentences:
            console.print(f"  - {sentence}", markup=False, highlight=False, soft_wrap=True)
    console.print()


def _minute(time: str) -> str:
    """Local date and minute of an ISO time."""
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M}"
