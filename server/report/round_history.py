"""Figures of the sites over the rounds, as plots and tables."""

from dataclasses import dataclass

from markupsafe import Markup

from fedrad.models.tasks import MonitoredFigure
from fedrad.server.results.summary import Round, SiteRound, Summary

from . import charts
from .outcome_results import figure, is_known, join_names

STATUS = {
    "ok": "trained",
    "evaluated": "evaluated only",
    "refused": "refused",
    "lost": "lost",
    "timeout": "no answer in time",
    "invalid": "update rejected",
}
"""`SiteRound.status` -> its text in the report."""

LIMITED = {
    "declared": "weight limited to the count that it declared, or that others did",
    "share": "weight limited to the largest share",
}
"""`SiteRound.limited_by` -> its text in the report."""

SITES_PER_TABLE = 6
"""Columns of one table of rounds, as many as fit on a printed page."""


@dataclass(frozen=True)
class RoundHistory:
    """One quantity over the rounds, as a plot and as tables of a few sites each."""

    quantity: str
    plot: Markup
    sites: dict[str, bool]
    """Site, in the order of the lines -> whether it has any figure."""
    tables: list[tuple[list[str], list[tuple[int, str, list[str]]]]]
    """For each table: its sites, and per round a row (round, stage, text of each site)."""


def round_histories(summary: Summary, monitored: MonitoredFigure) -> list[RoundHistory]:
    """The monitored figure of each outcome on validation patients, then training loss."""
    outcomes = list(
        dict.fromkeys(o for r in summary.rounds for s in r.sites.values() for o in s.auroc)
    )
    sites = list(dict.fromkeys([*summary.sites, *(s for r in summary.rounds for s in r.sites)]))
    histories = []
    for index, outcome in enumerate([*outcomes, None]):
        if not summary.rounds:
            break
        entries = {site: [r.sites.get(site) for r in summary.rounds] for site in sites}
        values = {
            site: [_value(e, outcome, monitored) for e in of_site]
            for site, of_site in entries.items()
        }
        quantity = "Training loss" if outcome is None else f"Validation {monitored.name}"
        plot = charts.over_rounds(
            summary.rounds,
            values,
            quantity,
            f"course-{index}",
            chance=None if outcome is None else monitored.chance,
        )
        tables = []
        for first in range(0, len(sites), SITES_PER_TABLE):
            some = sites[first : first + SITES_PER_TABLE]
            rows = [
                (r.round, r.stage, [_text(entries[site][i], outcome, monitored) for site in some])
                for i, r in enumerate(summary.rounds)
            ]
            tables.append((some, rows))
        named = f"{quantity}, {outcome}" if outcome is not None and len(outcomes) > 1 else quantity
        given = {site: any(map(is_known, of_site)) for site, of_site in values.items()}
        histories.append(RoundHistory(named, plot, given, tables))
    return histories


def _value(
    entry: SiteRound | None, outcome: str | None, monitored: MonitoredFigure
) -> float | None:
    if entry is None:
        return None
    if outcome is None:
        return entry.loss
    return entry.monitored(monitored).get(outcome)


def _text(entry: SiteRound | None, outcome: str | None, monitored: MonitoredFigure) -> str:
    value = _value(entry, outcome, monitored)
    if value is not None and is_known(value):
        return figure(value).removesuffix("0")  # sites round: two decimals, unless they give three
    if entry is None:
        return "not asked"
    if entry.status in ("ok", "evaluated"):
        if outcome is None:
            return "no training" if entry.status == "evaluated" else "no figure"
        return entry.missing.get(outcome, "no figure")
    return STATUS.get(entry.status, entry.status)


def participation(round_: Round) -> list[str]:
    """Numbers of sites that trained or only evaluated in a round; then each failure with reason,
    and whose weight or update was limited."""
    if not round_.sites:
        return ["no site answered"]
    statuses = [s.status for s in round_.sites.values()]
    counts = [
        f"{statuses.count(status)} {STATUS[status]}"
        for status in ("ok", "evaluated")
        if status in statuses
    ]
    failed = [
        f"{site}: {STATUS.get(s.status, s.status)}{f' ({s.why})' if s.why else ''}"
        for site, s in round_.sites.items()
        if s.status not in ("ok", "evaluated")
    ]
    limited = [
        f"{site}: {LIMITED[s.limited_by]} (share {100 * (s.share or 0):.0f} %)"
        for site, s in round_.sites.items()
        if s.limited_by
    ]
    clipped = [site for site, s in round_.sites.items() if s.clipped and s.status == "ok"]
    scaled = [f"scaled down: update of {join_names(clipped)}"] if clipped else []
    if round_.clipped:
        scaled.append("scaled down: step of the global model")
    return [", ".join(counts) or "none trained", *failed, *limited, *scaled]
