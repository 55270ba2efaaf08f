"""The page of `fedrad report --index`: all experiments of a folder, from their summaries."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from fedrad.server.results.summary import read_summary
from fedrad.stats.intervals import Interval
from fedrad.system.files import write_whole

from .report import environment


@dataclass(frozen=True)
class Entry:
    """One experiment of the page. `figures`: outcome, within-site AUROC of the global model, and
    its interval."""

    name: str
    link: str
    status: str
    sites: int
    figures: list[tuple[str, float | None, Interval | None]]
    finished: str


def write_index(folder: Path) -> Path:
    """Write `index.html`, with relative links to all experiments in a folder at any depth.

    Returns the page. Raises FileNotFoundError if the folder does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    entries, unread = [], []
    for file in sorted(folder.rglob("summary.json")):
        relative = file.parent.relative_to(folder)
        try:
            summary = read_summary(file.parent)
        except ValidationError:
            unread.append(str(relative))
            continue
        entries.append(
            Entry(
                name=str(summary.experiment.get("name") or relative),
                link=quote(str(relative / "report.html")),
                status=summary.status,
                sites=len(summary.sites),
                figures=[
                    (o.outcome, o.within, o.within_ci)
                    for o in summary.overall
                    if o.model == "global"
                ],
                finished=summary.provenance.finished,
            )
        )
    entries.sort(key=lambda e: e.finished, reverse=True)
    text = environment().get_template("index.html.j2").render(entries=entries, unread=unread)
    page = folder / "index.html"
    write_whole(page, text)
    return page
