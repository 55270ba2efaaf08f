"""The result of an experiment as a table on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedrad.server.summary import Cell, Interval, Overall, Summary

FAMILIES = {"base": "base", "local": "local-only", "global": "global"}


def show(summary: Summary, folder: Path) -> None:
    """Print the matrix of models and sites for each outcome, and where the report is."""
    console = Console()
    for outcome in summary.experiment["outcomes"]:
        console.print(_table(summary, outcome))
    console.print(
        "Within-site compares patients inside their hospital. Pooled also compares across "
        "hospitals: read it beside site-only, the AUROC of knowing the hospital alone.",
        style="dim",
    )
    console.print(f"Base weights: {summary.provenance.base_description}", style="dim")
    console.print("Research use only; not a medical device.", style="dim")
    console.print(f"Report: {(folder / 'report.html').resolve()}", soft_wrap=True)


def _table(summary: Summary, outcome: str) -> Table:
    percent = round(100 * summary.experiment["evaluation"]["confidence"])
    table = Table(title=f"{outcome}: AUROC on test patients [{percent} % interval]")
    table.add_column("model")
    for column in [*summary.sites, "within-site", "pooled ± bound", "site-only"]:
        table.add_column(column, justify="right")
    for family, title in FAMILIES.items():
        cells = {c.site: c for c in summary.cells if c.outcome == outcome and _family(c) == family}
        overall = next(
            (o for o in summary.overall if o.outcome == outcome and o.model == family), None
        )
        if overall is None:
            continue
        table.add_row(
            title,
            *(_cell(cells.get(site)) for site in summary.sites),
            _figure(overall.within, overall.within_ci),
            _pooled(overall),
            "–" if overall.site_only is None else f"{overall.site_only:.2f}",
        )
    return table


def _family(cell: Cell) -> str:
    return cell.model.partition(":")[0]


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "not run"
    return cell.missing or _figure(cell.auroc, cell.ci)


def _figure(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return "–"
    return f"{value:.2f}\n[{interval[0]:.2f}, {interval[1]:.2f}]"


def _pooled(overall: Overall) -> str:
    if overall.pooled is None or overall.pooled_ci is None:
        return "–"
    low, high = overall.pooled_ci
    return f"{overall.pooled:.2f} ± {overall.bound:.2f}\n[{low:.2f}, {high:.2f}]"
