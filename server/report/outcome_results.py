"""Results of an outcome for the report: the figures of its table, and the sentences of its answer.

They follow from the summary alone. The sentences are fixed templates without further judgement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from fedrad.exchange.model_names import family_of, home_of
from fedrad.server.results.summary import Cell, Interval, Overall, Summary

Family = Literal["base", "local", "global"]

FAMILIES: dict[Family, str] = {"base": "base", "local": "local-only", "global": "global"}
"""Model family -> its name in the report, in the order of the tables."""

FEW = 20
"""With fewer test patients of a class at a site, a result is called exploratory."""

REASONS: dict[str, str] = {
    "one class": "every patient of this site has the same outcome, so there is no AUROC; the "
    "site counts in the pooled figure",
    "below minimum": "withheld by the site: one class has fewer patients than the minimum it "
    "gives figures for",
    "timeout": "the site did not answer before the deadline",
    "declined": "the site's policy does not allow this",
    "not run": "this model was not evaluated there",
    "error": "the site could not evaluate, or sent figures that contradict each other; the "
    "coordinator's log says which",
    "no units": "the site has no test patient for whom this outcome is known",
    "held out": "this site took no part in training or choices, so it has no model of its own. "
    "All its patients are tested, and no figure over all sites includes it",
    "not recorded": "the summary holds neither a figure nor a reason",
}
"""Reason of an empty cell -> explanation."""


@dataclass(frozen=True)
class SiteRow:
    """Test patients of one site, and its cell for each family; None if the summary has none."""

    site: str
    positives: int | None
    negatives: int | None
    cells: dict[Family, Cell | None]


@dataclass(frozen=True)
class OutcomeResult:
    """Results of one outcome, as the report shows them."""

    outcome: str
    families: list[Family]
    rows: list[SiteRow]
    overall: dict[Family, Overall | None]
    answer: list[str]
    """The sentences of the answer."""
    exploratory: str | None
    """Why the result is exploratory; None if it is not."""
    notes: dict[str, str]
    """Reason that occurs in the table -> its explanation; and the sites without a histogram."""

    @property
    def has_figures(self) -> bool:
        """Whether any model has an AUROC at any site."""
        return any(_has_auroc(cell) for row in self.rows for cell in row.cells.values())


def is_at_other_site(cell: Cell) -> bool:
    """Whether the cell is of a local-only model at another site than its own."""
    return home_of(cell.model) not in (None, cell.site)


def is_known(value: float | None) -> bool:
    """Whether there is a finite figure."""
    return value is not None and isfinite(value)


def figure(value: float | None, digits: int = 3) -> str:
    """A figure with fixed decimals and a typographic minus sign; an en dash if there is none."""
    if value is None or not is_known(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def why_empty(cell: Cell | None) -> str:
    """The reason of an empty cell, a key of `REASONS`."""
    return (cell.missing if cell else None) or "not recorded"


def outcome_results(summary: Summary) -> list[OutcomeResult]:
    """The results of each outcome, in the order of the experiment."""
    planned = [*map(str, summary.experiment.get("outcomes") or [])]
    present = [*(c.outcome for c in summary.cells), *(o.outcome for o in summary.overall)]
    return [_result(summary, outcome) for outcome in dict.fromkeys([*planned, *present])]


def confidence(summary: Summary) -> str:
    """Name of the intervals, such as "95 % interval"; "interval" if the level is not recorded."""
    level = (summary.experiment.get("evaluation") or {}).get("confidence")
    return f"{100 * level:.4g} % interval" if isinstance(level, float) else "interval"


def join_names(names: Sequence[str]) -> str:
    """Names as an enumeration, "a, b and c"."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _result(summary: Summary, outcome: str) -> OutcomeResult:
    cells = {
        (family_of(c.model), c.site): c
        for c in summary.cells
        if c.outcome == outcome and not is_at_other_site(c)
    }
    overall = {
        family: next(
            (o for o in summary.overall if (o.model, o.outcome) == (family, outcome)), None
        )
        for family in FAMILIES
    }
    trained_alone = (summary.experiment.get("evaluation") or {}).get("local_baseline", True)
    families: list[Family] = [f for f in FAMILIES if f != "local" or trained_alone]
    sites = list(dict.fromkeys([*summary.sites, *(site for _, site in cells)]))
    rows = [_row(site, {f: cells.get((f, site)) for f in families}) for site in sites]
    reasons = {why_empty(c) for row in rows for c in row.cells.values() if not _has_auroc(c)}
    held_out = set((summary.experiment.get("evaluation") or {}).get("held_out") or [])
    inside = [row for row in rows if row.site not in held_out]
    notes = {reason: REASONS.get(reason, "") for reason in sorted(reasons)}
    no_histogram = {
        site for (_, site), c in cells.items() if c.withheld.get("sensitivity") == "declined"
    }
    if no_histogram:
        notes["no histogram"] = (
            f"the policy of {join_names(sorted(no_histogram))} shares no histogram of scores: "
            "counted within sites and in the macro figure, and neither in the pooled figure nor "
            "for threshold and calibration"
        )
    unmapped = outcome not in ((summary.experiment.get("model") or {}).get("base_outputs") or {})
    if unmapped and "not run" in notes:
        notes["not run"] += "; the base weights have no output for this outcome"
    return OutcomeResult(
        outcome=outcome,
        families=families,
        rows=rows,
        overall=overall,
        answer=[
            *_answer(summary, families, inside, overall, unmapped=unmapped),
            *(sentence for row in rows if row.site in held_out if (sentence := _held_out(row))),
        ],
        exploratory=_exploratory(rows),
        notes=notes,
    )


def _has_auroc(cell: Cell | None) -> bool:
    return cell is not None and is_known(cell.auroc)


def _row(site: str, cells: dict[Family, Cell | None]) -> SiteRow:
    """Counts are those of the test patients, which are the same for every model."""
    counted = [c for c in reversed(cells.values()) if c and c.positives is not None]
    first = counted[0] if counted else None
    return SiteRow(
        site, first.positives if first else None, first.negatives if first else None, cells
    )


def _answer(
    summary: Summary,
    families: list[Family],
    rows: list[SiteRow],
    overall: dict[Family, Overall | None],
    *,
    unmapped: bool,
) -> list[str]:
    result = overall["global"]
    if result is None or result.within is None or not is_known(result.within):
        if any(row.positives is not None for row in rows):
            return ["No site has test patients of both classes, so there is no within-site AUROC."]
        return ["There is no result: no figure on test patients was released."]
    level, used = f"{confidence(summary)} ", {f: _contributing(rows, f) for f in families}
    tested = [row for row in rows if row.site in used["global"]]
    sites = "one site" if len(tested) == 1 else f"{len(tested)} sites"
    sentences = [
        f"Compared within each hospital, the global model has an AUROC of "
        f"{_with_interval(result.within, result.within_ci, level)} on the test patients of "
        f"{sites} ({sum(row.positives or 0 for row in tested)} with the outcome, "
        f"{sum(row.negatives or 0 for row in tested)} without).",
        f"For comparison: {_other_model('local', families, overall['local'], unmapped)}, and "
        f"{_other_model('base', families, overall['base'], unmapped)}.",
        _compared(summary, overall),
    ]
    if odd := [f for f in families if used[f] and used[f] != used["global"]]:
        parts = (f"the {FAMILIES[f]} figure on {join_names(used[f])}" for f in [*odd, "global"])
        sentences.append(f"The figures rest on different sites: {join_names([*parts])}.")
    counted = [row for row in tested if row.positives is not None and row.negatives is not None]
    if counted:
        smallest = min(counted, key=lambda r: (_rarer(r), (r.positives or 0) + (r.negatives or 0)))
        sentences.append(
            f"The smallest test set is that of {smallest.site}: {smallest.positives} patients "
            f"with the outcome and {smallest.negatives} without."
        )
    return sentences


def _other_model(
    family: Family, families: list[Family], overall: Overall | None, unmapped: bool
) -> str:
    """The figure of a family that the global model is compared with, in words."""
    if family not in families:
        return "no local-only models, which were not part of this experiment"
    names = {"local": "the local-only models, each at its own hospital,", "base": "the base model"}
    if overall is not None and overall.within is not None and is_known(overall.within):
        return f"{names[family]} with {_with_interval(overall.within, overall.within_ci, '')}"
    reason = " (its weights have no output for this outcome)"
    return f"{names[family]} without a figure{reason if family == 'base' and unmapped else ''}"


def _held_out(row: SiteRow) -> str | None:
    """A sentence on the global model at a held-out site."""
    cell = row.cells.get("global")
    if cell is None or cell.auroc is None:
        return None
    figure = _with_interval(cell.auroc, cell.ci, "")
    return f"At {row.site}, which took no part in training or choices, it has {figure}."


def _compared(summary: Summary, overall: dict[Family, Overall | None]) -> str:
    """A sentence on the paired differences over all sites, or else on overlaps of intervals."""
    outcome = next((o.outcome for o in overall.values() if o), None)
    paired = [
        c
        for c in summary.comparisons
        if c.site is None and c.outcome == outcome and is_known(c.difference)
    ]
    if not paired:
        return _overlaps(overall)
    names = {str(family): name for family, name in FAMILIES.items()}
    parts = []
    for c in paired:
        value = c.difference or 0.0
        text = f"{value:+.3f}".replace("-", "−")
        interval = f" ({_signed(c.ci)})" if c.ci else ""
        together = f" for all {c.tests} such tests together" if c.tests > 1 else ""
        p = f", p = {c.p_holm:.2g}{together}," if c.p_holm else ""
        kind = "models" if c.other == "local" else "model"
        parts.append(f"{text}{interval}{p} against the {names.get(c.other, c.other)} {kind}")
    return f"Paired on the same patients, its AUROC differs by {'; by '.join(parts)}."


def _signed(interval: Interval) -> str:
    return " to ".join(f"{end:+.3f}".replace("-", "−") for end in interval)


def _overlaps(overall: dict[Family, Overall | None]) -> str:
    own = overall["global"]
    words: list[str] = []
    for family in ("local", "base"):
        other = overall[family]
        if own and own.within_ci and other and other.within_ci:
            first, second = sorted([own.within_ci, other.within_ci])
            does = "do not overlap" if first[1] < second[0] else "overlap"
            which = "those" if words else "The intervals"
            words.append(f"{which} of the global and {FAMILIES[family]} models {does}")
    return "; ".join([*words, "no paired test was made."]) if words else "No paired test was made."


def _with_interval(value: float, interval: Interval | None, level: str) -> str:
    if interval is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({level}{interval[0]:.3f}–{interval[1]:.3f})"


def _contributing(rows: list[SiteRow], family: Family) -> list[str]:
    return [row.site for row in rows if _has_auroc(row.cells.get(family))]


def _rarer(row: SiteRow) -> float:
    if row.positives is None or row.negatives is None:
        return float("inf")
    return min(row.positives, row.negatives)


def _exploratory(rows: list[SiteRow]) -> str | None:
    one = [row.site for row in rows if _rarer(row) == 0]
    few = [row.site for row in rows if 0 < _rarer(row) < FEW]
    silent = [row.site for row in rows if why_empty(row.cells.get("global")) == "below minimum"]
    parts = [
        f"{names} {what}"
        for names, what in (
            (join_names(few), f"tested fewer than {FEW} patients of a class"),
            (join_names(one), "tested patients of one class only"),
            (join_names(silent), "withheld all figures, having too few patients of a class"),
        )
        if names
    ]
    return f"{'; '.join(parts)}." if parts else None
