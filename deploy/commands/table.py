"""The result of an experiment as a table on the terminal."""

from pathlib import Path

from rich.table import Table

from fedrad.exchange.model_names import family_of, local_of
from fedrad.server.results.summary import Cell, Interval, Summary
from fedrad.system.terminal import PlainConsole

FAMILIES = {"base": "base", "local": "local-only", "global": "global"}


def show_results(summary: Summary, folder: Path) -> None:
    """Print the matrix of models and sites for each outcome, and where the report is."""
    console = PlainConsole()
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
    """Sites and overall figures down, models across: fits 80 columns whatever the sites."""
    percent = round(100 * summary.experiment["evaluation"]["confidence"])
    overall = {o.model: o for o in summary.overall if o.outcome == outcome}
    cells = {
        (family_of(c.model), c.site): c
        for c in summary.cells
        if c.outcome == outcome and c.model in {"base", "global", local_of(c.site)}
    }
    families = [family for family in FAMILIES if family in overall]
    table = Table(title=f"{outcome}: AUROC on test patients [{percent} % interval]")
    table.add_column("")
    for family in families:
        table.add_column(FAMILIES[family], justify="right")
    for site in summary.sites:
        table.add_row(site, *(_cell(cells.get((family, site))) for family in families))
    table.add_section()
    of = [overall[family] for family in families]
    table.add_row("within-site", *(_figure(o.within, o.within_ci) for o in of))
    table.add_row("pooled", *(_figure(o.pooled, o.pooled_ci) for o in of))
    table.add_row("  ± bound", *(_figure(o.bound) for o in of))
    table.add_row("  site-only", *(_figure(o.site_only) for o in of))
    return table


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "not run"
    return cell.missing or _figure(cell.auroc, cell.ci)


def _figure(value: float | None, interval: Interval | None = None) -> str:
    if value is None:
        return "–"
    text = f"{value:.2f}"
    return text if interval is None else f"{text} [{interval[0]:.2f}–{interval[1]:.2f}]"
