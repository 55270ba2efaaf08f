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
    from fedrad.client.policy.book_file import all_books
    from fedrad.client.settings import open_site
    from fedrad.system.files import UnreadableFileError
    from fedrad.system.terminal import PlainConsole

    site = open_site(folder, name=name, state=state)
    console = PlainConsole()
    try:
        books = [one for one in all_books(site.state) if experiment in (None, one.name)]
    except UnreadableFileError as error:
        fail(f"{error}; restore it from a backup")
    if not books:
        print("No experiment has asked this site anything.")
    for one in books:
        asked = sum(map(len, one.trainings.values()))
        console.print(
            f"{one.name}, settings {one.identity[:12]}: questions asked {asked}, runs of the "
            f"coordinator {len(one.runs)}",
            soft_wrap=True,
        )
        if one.closed:
            console.print(f"  closed: {one.closed}", soft_wrap=True)
        if experiment is None:
            continue
        rows = [("training", "number", "asked (UTC)", "model", "answer", "question")]
        for training, questions in sorted(one.trainings.items()):
            for question, entry in questions.items():
                asked_at = entry.asked.removesuffix("+00:00").replace("T", " ")
                model, answer = (entry.model or "")[:12], (entry.answer or "none yet")[:12]
                rows.append(
                    (str(training + 1), str(entry.number), asked_at, model, answer, question)
                )
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        for *row, last in rows:
            cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
            console.print("  ".join([" ", *cells, last]), soft_wrap=True)
        console.print("  model and answer: first characters of their SHA-256", soft_wrap=True)
