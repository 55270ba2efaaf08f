"""`fedrad-site book`: what each experiment has asked this site."""

from pathlib import Path
from typing import Annotated

import typer

from fedrad.system.commands import fail

from .options import SiteFolder, SiteName, StateFolder


def book(
    folder: SiteFolder = Path("."),
    experiment: Annotated[
        str | None, typer.Option(help="Name of an experiment; its questions are listed.")
    ] = None,
    name: SiteName = None,
    state: StateFolder = None,
) -> None:
    """Show the question book: what each experiment has asked this site, and about which model.

    A question is answered once; the ledger has the answers that left.
    """
    from rich.console import Console
    from rich.table import Table

    from fedrad.client.policy.book_file import all_books
    from fedrad.client.settings import open_site
    from fedrad.system.files import UnreadableFileError

    site = open_site(folder, name=name, state=state)
    console = Console(highlight=False)
    try:
        books = [one for one in all_books(site.state) if experiment in (None, one.name)]
    except UnreadableFileError as error:
        fail(f"{error}; restore it from a backup")
    if not books:
        print("No experiment has asked this site anything.")
    for one in books:
        asked = sum(map(len, one.trainings.values()))
        console.print(
            f"{one.name}, settings {one.identity[:12]}: {asked} questions in {len(one.runs)} runs"
        )
        if one.closed:
            console.print(f"  closed: {one.closed}", markup=False, soft_wrap=True)
        if experiment is None:
            continue
        table = Table("training", "number", "question", "asked (UTC)", "model", "answer", box=None)
        for training, questions in sorted(one.trainings.items()):
            for question, entry in questions.items():
                table.add_row(
                    str(training + 1),
                    str(entry.number),
                    question,
                    entry.asked.removesuffix("+00:00").replace("T", " "),
                    (entry.model or "")[:12],
                    (entry.answer or "none yet")[:12],
                )
        console.print(table)
