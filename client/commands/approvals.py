"""`fedrad-site approve` on the terminal."""

import json
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedrad.client.participant.budget_words import budget_sentence
from fedrad.client.policy.approvals import ApprovalRequest, Approvals, Decision
from fedrad.client.policy.book_file import Book, all_books
from fedrad.client.policy.earlier_experiments import earlier_experiments, in_sentences
from fedrad.client.policy.ledger import check_ledger_is_there
from fedrad.client.policy.membership import read_membership
from fedrad.client.policy.plain_words import describe_experiment
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Experiment
from fedrad.system.release import release


def list_experiments(site: Site, console: Console) -> None:
    """List the experiments that this site was asked to join, and what was decided on each."""
    check_ledger_is_there(site.state)
    asked = Approvals(site.state).all()
    if not asked:
        console.print("No experiment was asked for yet.")
        return
    books = {book.identity: book for book in all_books(site.state)}
    table = Table(box=None, pad_edge=False)
    for heading in ("experiment", "settings", "asked for", "stands", "by", "since", "limits"):
        table.add_column(heading, overflow="fold")
    for one in asked:
        last = one.decisions[-1] if one.decisions else None
        table.add_row(
            one.name,
            one.identity[:12],
            _day(one.asked),
            one.standing,
            last.by if last else "",
            _day(last.time) if last else "",
            _limits(last, books.get(one.identity)) if last else "",
        )
    console.print(table)
    if any(one.standing in ("waiting", "not signed", "expired") for one in asked):
        console.print(
            "`fedrad-site approve FOLDER NAME` shows what would be done, and approves it."
        )
    for one in asked:
        if other := _other_release(one):
            console.print(f"{one.name}: {other}", soft_wrap=True)
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
        which = "\n".join(
            f"  --settings {one.identity} ({one.standing}, asked for {_minute(one.asked)})"
            for one in named
        )
        raise SiteProblem(
            "approval", f"{name!r}: asked for with several settings; say which:\n{which}"
        )
    return named[0]


def show_experiment(
    asked: ApprovalRequest, site: Site, console: Console, *, all_settings: bool = False
) -> None:
    """Show an experiment in plain words, and what was approved before.

    Parameters
    ----------
    asked
        The experiment.
    site
        This site.
    console
        Where to show it.
    all_settings
        Whether to show every setting too.

    Raises
    ------
    SiteProblem
        If this version of fedrad cannot read it, or its text is not the one that was asked for.
    """
    experiment = asked.experiment()
    console.print(Text.assemble((asked.name, "bold"), f", asked for {_minute(asked.asked)}"))
    console.print(f"SHA-256 of all its settings: {asked.identity}", soft_wrap=True)
    if site.joined:
        console.print(f"this site's coordinator: {read_membership(site.state).address}")
    if other := _other_release(asked):
        console.print(other, soft_wrap=True)
    before = in_sentences(earlier_experiments(site.state, but=asked.identity))
    sections = [
        *describe_experiment(experiment, site.settings.policy),
        ("Before, on these patients", before),
        ("What each patient has been in before", budget_sentence(site, experiment)),
    ]
    for heading, sentences in sections:
        console.print(f"\n{heading}", style="bold")
        for sentence in sentences:
            console.print(f"  - {sentence}", soft_wrap=True)
    if all_settings:
        _show_settings(experiment, console)
    console.print()


def _other_release(asked: ApprovalRequest) -> str:
    """That the installed code is not the one that an experiment was approved with; "" if it is."""
    if asked.standing != "approved" or asked.decisions[-1].release == release():
        return ""
    return asked.decisions[-1].release_in_words()


def _show_settings(experiment: Experiment, console: Console) -> None:
    """Every setting, as it is hashed. JSON has no control characters: it escapes them."""
    console.print("\nAll settings", style="bold")
    text = json.dumps(json.loads(experiment.written_out), indent=1, sort_keys=True)
    console.print(text, soft_wrap=True)


def limits_in_words(until: datetime | None, runs: int | None) -> str:
    """Last day and number of runs of an approval that is to be given."""
    days = f"until the end of {until:%Y-%m-%d}" if until else "without a last day"
    number = "any number of runs" if runs is None else "1 run" if runs == 1 else f"{runs} runs"
    return f"{number} of the coordinator, {days}"


def _limits(decision: Decision, book: Book | None) -> str:
    """Last day of an approval, and how many of its runs are used; "" without such limits."""
    limits = [f"until {decision.until}"] if decision.until else []
    if decision.runs:
        used = book.runs_since(decision.time) if book else 0
        limits.append(f"{used} of {decision.runs} runs used")
    return ", ".join(limits)


def _day(time: str) -> str:
    """Local date of an ISO time."""
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d}"


def _minute(time: str) -> str:
    """Local date and minute of an ISO time."""
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M}"
