"""A comparison of experiments as files: `compare.json`, `.csv`, `.md`, `.html`."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from fedrad.server.results.summary import read_summary
from fedrad.system.files import write_whole

from .compare import ExperimentComparison, compare
from .contrasts import Contrast
from .report import environment, pvalue, signed


def write_comparison(folders: Mapping[str, Path], out: Path) -> Path:
    """Compare experiments and write the files into a folder; returns the page. `folders`: name in
    the tables -> folder. Raises what `read_summary` and `compare` raise."""
    found = compare({name: read_summary(folder) for name, folder in folders.items()})
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("compare.json", found.model_dump_json(indent=1)),
        ("compare.md", render_comparison(found, "compare.md.j2", escape=False)),
        ("compare.html", render_comparison(found, "compare.html.j2", escape=True)),
    ):
        write_whole(out / name, text)
    _write_csv(found, out)
    return out / "compare.html"


def render_comparison(comparison: ExperimentComparison, template: str, *, escape: bool) -> str:
    """A comparison by one of our templates."""
    outcomes = list(dict.fromkeys(row.outcome for row in comparison.rows))
    text = (
        environment(escape=escape)
        .get_template(template)
        .render(
            comparison=comparison,
            level=f"{100 * comparison.confidence:.4g} %",
            outcomes=[
                (
                    outcome,
                    [row for row in comparison.rows if row.outcome == outcome],
                    [c for c in comparison.contrasts if c.outcome == outcome],
                )
                for outcome in outcomes
            ],
            answer=answer,
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def answer(contrasts: list[Contrast], confidence: float) -> list[str]:
    """What may be said of an outcome's differences, from fixed templates: one is called higher
    only where a paired interval does not hold 0."""
    said = []
    for c in contrasts:
        if not c.certain or c.difference is None or c.ci is None:
            continue
        high, low = (c.first, c.second) if c.difference > 0 else (c.second, c.first)
        interval = sorted(abs(end) for end in c.ci)
        text = (
            f"{high} has a higher within-site AUROC than {low}: {signed(abs(c.difference))} "
            f"({signed(interval[0])} to {signed(interval[1])})"
        )
        if c.p_holm is not None and c.tests > 1:
            holds = "also" if c.p_holm < 1 - confidence else "but not"
            text += f", {holds} for all {c.tests} differences together (p = {pvalue(c.p_holm)})"
        said.append(f"{text}.")
    if left := len(contrasts) - len(said):
        whose = "Of the others" if said else "Of these differences"
        said.append(
            f"{whose} ({left}) nothing can be said: the interval holds 0, or nothing pairs the two."
        )
    return said


def _write_csv(comparison: ExperimentComparison, out: Path) -> None:
    with (out / "compare.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            [
                "experiment",
                "outcome",
                "site",
                "auroc",
                "ci_low",
                "ci_high",
                "folds_sd",
                "balanced_accuracy",
                "f1",
                "missing",
            ]
        )
        for row in comparison.rows:
            low, high = row.within_ci or (None, None)
            table.writerow(
                [
                    row.name,
                    row.outcome,
                    "within-site",
                    row.within,
                    low,
                    high,
                    row.folds_sd,
                    row.balanced_accuracy,
                    row.f1,
                    None,
                ]
            )
            for site, f in row.sites.items():
                low, high = f.ci or (None, None)
                table.writerow(
                    [row.name, row.outcome, site, f.auroc, low, high, None, None, None, f.missing]
                )
    with (out / "differences.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            [
                "outcome",
                "first",
                "second",
                "difference",
                "ci_low",
                "ci_high",
                "p",
                "p_holm",
                "tests",
                "paired",
                "folds",
                "wilcoxon_p",
                "wilcoxon_least",
                "wilcoxon_over",
                "why",
            ]
        )
        for c in comparison.contrasts:
            low, high = c.ci or (None, None)
            table.writerow(
                [
                    c.outcome,
                    c.first,
                    c.second,
                    c.difference,
                    low,
                    high,
                    c.p,
                    c.p_holm,
                    c.tests,
                    c.paired,
                    c.folds,
                    c.wilcoxon_p,
                    c.wilcoxon_least,
                    c.wilcoxon_over,
                    c.why,
                ]
            )
