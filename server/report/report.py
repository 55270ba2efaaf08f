"""`report.html`: one self-contained page, made from `summary.json` alone.

The page loads nothing from the network and runs no script. It shows the figures of the summary and
no others.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from math import exp
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from fedrad.models.tasks import task_of
from fedrad.server.results.summary import Interval, Summary, read_summary
from fedrad.stats.site_figures import PROBABILITY_FIGURES
from fedrad.system.files import write_whole
from fedrad.system.release import short_release
from fedrad.system.templates import template_environment

from . import charts, checklists, drawing
from .outcome_results import (
    FAMILIES,
    confidence,
    figure,
    is_known,
    join_names,
    outcome_results,
    why_empty,
)
from .panels import panel
from .round_history import participation, round_histories
from .single_source import marks, sentences, single_sources

TEMPLATES = Path(__file__).parent / "templates"


def render(summary: Summary) -> str:
    """The report as HTML. Equal summaries give equal text."""
    results = outcome_results(summary)
    sources = [single_sources(summary, f.outcome) for f in results]
    text = (
        environment()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            experiment=summary.experiment,
            name=str(summary.experiment.get("name") or "Unnamed experiment"),
            results=results,
            single_sources=[sentences(of) for of in sources],
            marks=[marks(of) for of in sources],
            forests=[
                charts.forest(f, f"forest-{i}") if f.has_figures else ""
                for i, f in enumerate(results)
            ],
            panels=[panel(summary, f, str(i)) for i, f in enumerate(results)],
            checklists={"TRIPOD+AI": checklists.TRIPOD_AI, "CLAIM": checklists.CLAIM},
            team=checklists.TEAM,
            histories=round_histories(summary, task_of(summary.experiment).monitored),
            interval_name=confidence(summary),
            families=FAMILIES,
            instead_of_figures=task_of(summary.experiment).instead_of_figures,
            phantom=_is_phantom(summary),
            one_site=len(summary.sites) == 1,
            versions=_versions(summary),
            family_swatch=drawing.family_swatch,
            site_swatch=drawing.site_swatch,
            why_empty=why_empty,
            participation=participation,
            elapsed=_elapsed(summary),
            probability_figures=PROBABILITY_FIGURES,
        )
    )
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


def render_markdown(summary: Summary) -> str:
    """The answer and the table of models and sites of each outcome, as Markdown."""
    results = outcome_results(summary)
    sources = [single_sources(summary, f.outcome) for f in results]
    text = (
        environment(escape=False)
        .get_template("report.md.j2")
        .render(
            summary=summary,
            name=str(summary.experiment.get("name") or "Unnamed experiment"),
            results=results,
            single_sources=[sentences(of) for of in sources],
            marks=[marks(of) for of in sources],
            instead_of_figures=task_of(summary.experiment).instead_of_figures,
            interval_name=confidence(summary),
            families=FAMILIES,
            why_empty=why_empty,
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def write_report(folder: Path) -> Path:
    """Write `report.html` and `report.md` next to the `summary.json` of an experiment's folder.

    Returns the HTML page. Raises the errors of `read_summary`. Each file is replaced in one step.
    """
    summary = read_summary(folder)
    for name, text in (("report.md", render_markdown(summary)), ("report.html", render(summary))):
        write_whole(folder / name, text)
    return folder / "report.html"


def environment(*, escape: bool = True) -> Environment:
    """The Jinja2 environment of the templates, with the filters of this module.

    For HTML (`escape`) all values are escaped except plots, whose text is escaped when they are
    drawn. In Markdown the filter `md` escapes names and texts.
    """
    env = template_environment(TEMPLATES, html=escape)
    env.filters.update(
        figure=figure,
        interval=interval,
        percent=percent,
        percents=percents,
        seconds=seconds,
        size=size,
        signed=signed,
        pvalue=pvalue,
        setting=setting,
        join_names=join_names,
        sigmoid=sigmoid,
        count_of=count_of,
        utc_time=utc_time,
        no_break=no_break,
        short_release=short_release,
        md=escape_markdown,
    )
    env.tests["known"] = is_known
    return env


def signed(value: float | None) -> str:
    """A difference with its sign, three decimals."""
    if value is None or not is_known(value):
        return "–"
    return f"{value:+.3f}".replace("-", "−")


def pvalue(value: float) -> str:
    """A p value: two significant digits, "<0.001" below that."""
    return "<0.001" if value < 0.001 else f"{value:.2g}"


def interval(value: Interval | None) -> str:
    """An interval, "0.744–0.866"; empty if there is none."""
    return f"{figure(value[0])}–{figure(value[1])}" if value else ""


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%" if value is not None and is_known(value) else "–"


def percents(value: Interval) -> str:
    """An interval of shares, "59.0–71.8 %"."""
    return f"{100 * value[0]:.1f}–{100 * value[1]:.1f}\N{NO-BREAK SPACE}%"


def count_of(share: float, total: int | None) -> str:
    """The counts behind a share, "16 of 20"."""
    return f"{round(share * total)} of {total}" if total else ""


def sigmoid(logit: float) -> float:
    """Logit to (0, 1)."""
    return 1 / (1 + exp(-max(-30.0, min(30.0, logit))))


def seconds(value: float | None) -> str:
    """A duration: "3.2 s", "4 min 10 s", "2 h 05 min"."""
    if value is None or not is_known(value):
        return "–"
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(value: int | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return "–"
    amount = float(value)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def setting(value: Any) -> str:
    """The value of a setting as text."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def utc_time(value: str) -> str:
    """An ISO time as "2026-05-04 10:12 UTC"; other text is returned unchanged."""
    try:
        return f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return value


def escape_markdown(text: object) -> str:
    """Text on one line, with the special characters of Markdown escaped."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(str(text).split()))


def no_break(text: str) -> Markup:
    """Escaped text without line breaks inside intervals and percentages."""
    return Markup(
        re.sub(r"[\d.]+(?:–[\d.]+| %)", r'<span class="nb">\g<0></span>', str(escape(text)))
    )


def _is_phantom(summary: Summary) -> bool:
    """Whether the name of the experiment or of its base weights says that data are synthetic."""
    texts: Sequence[object] = (
        summary.provenance.base_description,
        summary.experiment.get("name"),
    )
    return any(word in str(t).lower() for t in texts for word in ("phantom", "synthetic"))


def _versions(summary: Summary) -> str | None:
    """Sites with another release of fedrad or version of PyTorch than the coordinator; None
    without any."""
    own = summary.provenance
    other = [
        f"{site} (fedrad {short_release(e.release or e.fedrad)}, PyTorch {e.torch})"
        for site, e in summary.site_entries.items()
        if (e.fedrad, e.torch) != (own.fedrad, own.torch) or _differ(e.release, own.release)
    ]
    return join_names(other) if other else None


def _differ(one: str | None, other: str | None) -> bool:
    """Whether two releases differ; older summaries do not name them."""
    return None not in (one, other) and one != other


def _elapsed(summary: Summary) -> str | None:
    """Time from start to finish; None if one of them is not a time."""
    try:
        start, end = (
            datetime.fromisoformat(t)
            for t in (
                summary.provenance.started,
                summary.provenance.finished,
            )
        )
        return seconds((end - start).total_seconds())
    except (ValueError, TypeError):
        return None
