"""Figures over sites that only one site vouches for: nobody else could notice if it lied."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fedrad.exchange.model_names import LOCAL, family_of
from fedrad.server.results.summary import Cell, Overall, Summary

from .outcome_results import FAMILIES, is_at_other_site, is_known, join_names

NEARLY_ALL = 0.95
"""From this share of the weight on, a figure over several sites rests on one of them."""
MARK = "†"
NAMES: dict[str, str] = {str(family): name for family, name in FAMILIES.items()}


@dataclass(frozen=True)
class SingleSource:
    """A figure that rests on one site.

    Attributes
    ----------
    figure
        The figure, as a sentence names it, without the model.
    site
        The site.
    share
        Its share of the figure's weight, in (0, 1].
    model
        The model that it is a figure of, as a sentence names it; empty for other figures.
    row, family
        Its place in the table of models and sites: "within", "macro", "pooled", and the model.
        Empty for figures that are not in this table.
    """

    figure: str
    site: str
    share: float = 1.0
    row: str = ""
    family: str = ""
    model: str = ""

    @property
    def name(self) -> str:
        """The figure, with its model."""
        return f"{self.figure} of {self.model}" if self.model else self.figure


def single_sources(summary: Summary, outcome: str) -> list[SingleSource]:
    """The figures of an outcome that only one site vouches for."""
    held_out = set((summary.experiment.get("evaluation") or {}).get("held_out") or [])
    cells = [c for c in summary.cells if c.outcome == outcome and not is_at_other_site(c)]
    inside = [c for c in cells if c.site not in held_out]
    outside = [c for c in cells if c.site in held_out]
    return [
        *_over_sites(summary.overall, inside, outcome, ""),
        *_over_sites(summary.held_out, outside, outcome, " at held-out sites"),
        *_comparisons(summary, outcome),
        *_groups(summary, outcome),
    ]


def sentences(sources: Iterable[SingleSource]) -> list[str]:
    """One sentence for each site that alone vouches for figures, and for each that nearly does."""
    alone, nearly = defaultdict[str, list[SingleSource]](list), defaultdict[str, list[str]](list)
    for source in sources:
        if source.share == 1:
            alone[source.site].append(source)
        else:
            nearly[source.site].append(f"{source.name} ({100 * source.share:.0f} %)")
    return [
        *(f"Only {site} vouches for {_together(of)}." for site, of in sorted(alone.items())),
        *(f"Nearly on {site} alone rest {join_names(of)}." for site, of in sorted(nearly.items())),
    ]


def _together(sources: Iterable[SingleSource]) -> str:
    """Figures in words. Those of the same models are named together."""
    models, figures = (
        defaultdict[str, list[str]](list),
        defaultdict[tuple[str, ...], list[str]](list),
    )
    for source in sources:
        models[source.figure] += [source.model] if source.model else []
    for figure, of in models.items():
        figures[tuple(of)].append(figure)
    return "; ".join(
        join_names(some) + (f" of {join_names(list(of))}" if of else "")
        for of, some in figures.items()
    )


def marks(sources: Iterable[SingleSource]) -> dict[tuple[str, str], str]:
    """Row and model of the table -> the mark of its figure."""
    return {(source.row, source.family): MARK for source in sources if source.row}


def _over_sites(
    figures: Iterable[Overall], cells: list[Cell], outcome: str, where: str
) -> list[SingleSource]:
    sources = []
    for o in figures:
        if o.outcome != outcome:
            continue
        model = f"the {NAMES.get(o.model, o.model)} model{'s' if o.model == LOCAL else ''}{where}"
        of_model = [c for c in cells if family_of(c.model) == o.model]
        ranked = [c for c in of_model if is_known(c.auroc)]
        pairs = {c.site: float((c.positives or 0) * (c.negatives or 0)) for c in ranked}
        binned = {name for pair in o.pairs for name in (pair.positives_of, pair.negatives_of)}
        probable = [c.site for c in of_model if is_known(c.probabilities.brier)]
        in_table = o.model if o.model in FAMILIES and not where else ""
        for row, value, figure, weights in (
            ("within", o.within, "the within-site AUROC", pairs),
            ("macro", o.macro, "the macro AUROC", dict.fromkeys(pairs, 1.0)),
            ("pooled", o.pooled, "the pooled AUROC", dict.fromkeys(binned, 1.0)),
            (
                "",
                o.decisions.sensitivity or o.decisions.specificity,
                "sensitivity and specificity",
                dict.fromkeys(o.threshold_sites, 1.0),
            ),
            ("", o.probabilities.brier, "the Brier score", dict.fromkeys(probable, 1.0)),
            ("", o.probabilities.slope, "the calibration", dict.fromkeys(binned, 1.0)),
        ):
            if is_known(value) and (found := _heaviest(weights)):
                row_of = row if in_table else ""
                sources.append(SingleSource(figure, *found, row_of, in_table, model))
    return sources


def _heaviest(weights: Mapping[str, float]) -> tuple[str, float] | None:
    """The site that has nearly all weight, and its share; None without one."""
    total = sum(weights.values())
    if not weights:
        return None
    site = max(weights, key=lambda name: (weights[name], name))
    share = weights[site] / total if total else 1 / len(weights)
    if len(weights) == 1:
        return site, 1.0
    return (site, min(share, 0.999)) if share >= NEARLY_ALL else None


def _comparisons(summary: Summary, outcome: str) -> list[SingleSource]:
    at_sites = defaultdict[str, set[str]](set)
    for c in summary.comparisons:
        if c.outcome == outcome and c.site is not None and is_known(c.difference):
            at_sites[family_of(c.other)].add(c.site)
    return [
        SingleSource(f"the comparison with the {NAMES.get(c.other, c.other)} model", *found)
        for c in summary.comparisons
        if c.outcome == outcome and c.site is None and is_known(c.difference)
        if (found := _heaviest(dict.fromkeys(at_sites[c.other], 1.0)))
    ]


def _groups(summary: Summary, outcome: str) -> list[SingleSource]:
    """Groups over all sites, and the largest differences between two groups."""
    at_sites = defaultdict[tuple[str, str], set[str]](set)
    for s in summary.subgroups:
        if s.outcome == outcome and s.site is not None and is_known(s.auroc):
            at_sites[s.column, s.group].add(s.site)
    groups = [
        SingleSource(f"the group {s.column} {s.group}", *found)
        for s in summary.subgroups
        if s.outcome == outcome and s.site is None and is_known(s.auroc)
        if (found := _heaviest(dict.fromkeys(at_sites[s.column, s.group], 1.0)))
    ]
    gaps = [
        SingleSource(f"the largest difference between groups of {gap.column}", *found)
        for gap in summary.gaps
        if gap.outcome == outcome
        if (
            found := _heaviest(
                dict.fromkeys(
                    at_sites[gap.column, gap.highest] & at_sites[gap.column, gap.lowest], 1.0
                )
            )
        )
    ]
    return groups + gaps
