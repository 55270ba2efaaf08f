"""A comparison of experiments as files: `compare.json`, `.csv`, `.md`, `.html`."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from fedrad.server.results.summary import read_summary
from fedrad.system.files import replacing, write_whole
from fedrad.system.folders import make_folder

from .compare import ExperimentComparison, compare
from .contrasts import Contrast
from .report import environment, pvalue, signed


def write_comparison(folders: Mapping[str, Path], out: Path) -> Path:
    """Compare experiments and write the files.

    Parameters
    ----------
    folders
        Name in the tables -> folder of the experiment.
    out
        Folder for the files.

    Returns
    -------
    Path
        The HTML page.

    Raises
    ------
    FileNotFoundError, pydantic.ValidationError, Incomparable
        See `read_summary` and `compare`.
    """
    comparison = compare({name: read_summary(folder) for name, folder in folders.items()})
    make_folder(out)
    for name, text in (
        ("compare.json", comparison.model_dump_json(indent=1)),
        ("compare.md", render_comparison(comparison, "compare.md.j2", escape=False)),
        ("compare.html", render_comparison(comparison, "compare.html.j2", escape=True)),
    ):
        write_whole(out / name, text)
    _write_csv(comparison, out)
    return out / "compare.html"


def render_comparison(comparison: ExperimentComparison, template: str, *, escape: bool) -> str:
    """Render a comparison with a template of the folder `templates`; `escape` for HTML."""
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
    """Sentences on the differences of an outcome, from fixed templates.

    An experiment is called higher only if its interval is paired and excludes 0.

    Parameters
    ----------
    contrasts
        Differences of one outcome.
    confidence
        Level of the intervals, in (0, 1).
    """
    sentences = []
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
        sentences.append(f"{text}.")
    if left := len(contrasts) - len(sentences):
        which = "other differences" if sentences else "differences"
        sentences.append(
            f"No conclusion for {left} {which}: the interval contains 0, or the two are not paired."
        )
    return sentences


def _write_csv(comparison: ExperimentComparison, out: Path) -> None:
    with (
        replacing(out / "compare.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
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
    with (
        replacing(out / "differences.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
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
