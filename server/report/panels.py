"""What the report shows of one outcome beyond its matrix: comparisons, decisions, probabilities,
groups, other hospitals. Chosen and drawn from the summary alone."""

from dataclasses import dataclass

from markupsafe import Markup

from fedrad.server.results.parts import (
    Cell,
    ComparisonFigures,
    CurvePoint,
    Gap,
    NetBenefitPoint,
    NewSiteFigures,
    Overall,
    Pair,
    SubgroupFigures,
)
from fedrad.server.results.summary import Summary
from fedrad.stats.intervals import Interval, wilson

from . import curves
from .outcome_results import OutcomeResult, is_at_other_site, is_known

BENEFIT_SHOWN = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Threshold probabilities in the table of net benefit; the plot has all."""
SITES_IN_PAIRS = 8
"""Most sites for which the table of pairs of sites is shown; `summary.json` has it always."""
EXAMPLE = 0.8
"""A sensitivity whose interval says what a number of patients is worth."""


@dataclass(frozen=True)
class Panel:
    """All that is shown of one outcome, plots drawn. Empty parts are left out of the page."""

    cells: dict[str, Cell | None]
    """Site -> cell of the global model, in the order of the legend."""
    comparisons: list[tuple[str | None, dict[str, ComparisonFigures]]]
    """Site (None: all) -> other model -> paired difference."""
    tests: dict[str, int]
    """"sites" and "overall" -> tests that a corrected p holds for together."""
    roc: Markup
    calibrated: list[tuple[str, Cell]]
    """Sites with a Brier score."""
    calibration: Markup
    curves: list[tuple[str, CurvePoint]]
    benefit: Markup
    benefits: list[NetBenefitPoint]
    subgroups: list[tuple[str, list[SubgroupFigures]]]
    """Column -> figures over all sites by group."""
    gaps: list[Gap]
    travellers: dict[tuple[str, str], Cell]
    """(home, site) -> a local-only model at another site, where any may travel."""
    pairs: dict[tuple[str, str], Pair]
    pair_sites: list[str]
    new_site: NewSiteFigures | None
    held_out: Overall | None
    worth: dict[str, Interval | None]
    """Site -> interval that a sensitivity of 80 % would have with its test patients."""


def panel(summary: Summary, result: OutcomeResult, key: str) -> Panel:
    """The panel of an outcome. `key` keeps the ids of plots on a page apart."""
    outcome = result.outcome
    cells = {row.site: row.cells.get("global") for row in result.rows}
    whole = result.overall.get("global")
    paired = [c for c in summary.comparisons if c.outcome == outcome and c.model == "global"]
    sites = list(dict.fromkeys([*(c.site for c in paired if c.site is not None), None]))
    columns = dict.fromkeys(s.column for s in summary.subgroups if s.outcome == outcome)
    pairs = {(p.positives_of, p.negatives_of): p for p in whole.pairs} if whole else {}
    among = list(dict.fromkeys(site for pair in pairs for site in pair))
    level = (summary.experiment.get("evaluation") or {}).get("confidence", 0.95)
    return Panel(
        cells=cells,
        comparisons=[
            (site, {_family(c.other): c for c in paired if c.site == site}) for site in sites
        ]
        if paired
        else [],
        tests={
            name: max((c.tests for c in paired if (c.site is None) == alone), default=0)
            for name, alone in (("sites", False), ("overall", True))
        },
        roc=curves.roc(cells, f"roc-{key}"),
        calibrated=[
            (s, c) for s, c in cells.items() if c is not None and is_known(c.probabilities.brier)
        ],
        calibration=curves.calibration(cells, f"calibration-{key}"),
        curves=[(s, p) for s, c in cells.items() if c for p in c.calibration_curve],
        benefit=curves.benefit(whole.net_benefit if whole else [], f"benefit-{key}"),
        benefits=[p for p in (whole.net_benefit if whole else []) if p.threshold in BENEFIT_SHOWN],
        subgroups=[
            (
                c,
                [
                    s
                    for s in summary.subgroups
                    if s.outcome == outcome and s.column == c and s.site is None
                ],
            )
            for c in columns
        ],
        travellers={
            (c.model.removeprefix("local:"), c.site): c
            for c in summary.cells
            if c.outcome == outcome and is_at_other_site(c)
        },
        gaps=[g for g in summary.gaps if g.outcome == outcome],
        pairs=pairs if 1 < len(among) <= SITES_IN_PAIRS else {},
        pair_sites=among,
        new_site=whole.new_site if whole else None,
        held_out=next(
            (o for o in summary.held_out if (o.model, o.outcome) == ("global", outcome)), None
        ),
        worth={
            site: wilson(round(EXAMPLE * c.positives), c.positives, level)
            if c is not None and c.positives
            else None
            for site, c in cells.items()
        },
    )


def _family(model: str) -> str:
    return "local" if model.startswith("local") else model
