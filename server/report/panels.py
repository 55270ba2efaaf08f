"""The parts of the report on one outcome after its table of models and sites: comparisons, plots,
probabilities, subgroups, other hospitals. They follow from the summary alone."""

from dataclasses import dataclass

from markupsafe import Markup

from fedrad.exchange.figures import ProbabilityFigures
from fedrad.exchange.model_names import family_of, home_of
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
from fedrad.stats.site_figures import PROBABILITY_FIGURES

from . import curves
from .outcome_results import OutcomeResult, is_at_other_site, is_known

BENEFIT_SHOWN = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Threshold probabilities in the table of net benefit. The plot has all."""
SITES_IN_PAIRS = 8
"""Largest number of sites with a table of pairs of sites. `summary.json` always has the pairs."""
EXAMPLE = 0.8
"""Sensitivity whose interval shows how precise a number of patients is."""


@dataclass(frozen=True)
class Panel:
    """Plots and figures of one outcome. The page omits empty parts."""

    cells: dict[str, Cell | None]
    """Site -> cell of the global model, in the order of the legend."""
    comparisons: list[tuple[str | None, dict[str, ComparisonFigures]]]
    """Site (None: all sites), and: other model -> paired difference."""
    tests: dict[str, int]
    """"sites" and "overall" -> number of tests for which p is corrected."""
    roc: Markup
    calibrated: list[tuple[str, Cell]]
    """Sites with any figure of calibrated probabilities."""
    calibrated_together: ProbabilityFigures | None
    """The same over all sites; None if there is none."""
    calibration: Markup
    curves: list[tuple[str, CurvePoint]]
    benefit: Markup
    benefits: list[NetBenefitPoint]
    subgroups: list[tuple[str, list[SubgroupFigures]]]
    """Column, and the figures over all sites by group."""
    gaps: list[Gap]
    local_elsewhere: dict[tuple[str, str], Cell]
    """(site of the model, tested site) -> cell of a local-only model at another site."""
    pairs: dict[tuple[str, str], Pair]
    pair_sites: list[str]
    new_site: NewSiteFigures | None
    held_out: Overall | None
    precision: dict[str, Interval | None]
    """Site -> interval of a sensitivity of 80 % with the site's number of test patients."""


def panel(summary: Summary, result: OutcomeResult, key: str) -> Panel:
    """The panel of an outcome. `key` makes the ids of its plots unique on the page."""
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
            (site, {family_of(c.other): c for c in paired if c.site == site}) for site in sites
        ]
        if paired
        else [],
        tests={
            name: max((c.tests for c in paired if (c.site is None) == alone), default=0)
            for name, alone in (("sites", False), ("overall", True))
        },
        roc=curves.roc(cells, f"roc-{key}"),
        calibrated=[
            (s, c) for s, c in cells.items() if c is not None and _any_known(c.probabilities)
        ],
        calibrated_together=whole.probabilities
        if whole is not None and _any_known(whole.probabilities)
        else None,
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
        local_elsewhere={
            (site_of, c.site): c
            for c in summary.cells
            if c.outcome == outcome and is_at_other_site(c) and (site_of := home_of(c.model))
        },
        gaps=[g for g in summary.gaps if g.outcome == outcome],
        pairs=pairs if 1 < len(among) <= SITES_IN_PAIRS else {},
        pair_sites=among,
        new_site=whole.new_site if whole else None,
        held_out=next(
            (o for o in summary.held_out if (o.model, o.outcome) == ("global", outcome)), None
        ),
        precision={
            site: wilson(round(EXAMPLE * c.positives), c.positives, level)
            if c is not None and c.positives
            else None
            for site, c in cells.items()
        },
    )


def _any_known(figures: ProbabilityFigures) -> bool:
    return any(is_known(getattr(figures, figure.name)) for figure in PROBABILITY_FIGURES)
