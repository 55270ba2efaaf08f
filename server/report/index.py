"""`fedrad report --index`: one page over the experiments of a folder, from their summaries."""

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
    """One experiment in the list. `figures`: outcome, within-site AUROC of the global model and
    its interval."""

    name: str
    link: str
    status: str
    sites: int
    figures: list[tuple[str, float | None, Interval | None]]
    finished: str


def write_index(folder: Path) -> Path:
    """Write `index.html` over all experiments in a folder, at any depth; links are relative.
    Raises FileNotFoundError where there is no such folder."""
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    entries, unread = [], []
    for file in sorted(folder.rglob("summary.json")):
        place = file.parent.relative_to(folder)
        try:
            summary = read_summary(file.parent)
        except ValidationError:
            unread.append(str(place))
            continue
        entries.append(
            Entry(
                name=str(summary.experiment.get("name") or place),
                link=quote(str(place / "report.html")),
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
