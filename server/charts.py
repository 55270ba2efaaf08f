"""The report's plots as SVG that stands inside a page: text stays text, colours follow the page.

Drawn with matplotlib's object interface, without pyplot. The same figures give the same bytes.
"""

import io
import re
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from html import escape
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .findings import FAMILIES, Family, Finding, known, why_empty
from .summary import Cell, Interval, Round

WIDTH = 440.0
"""Width of a plot in points: on a phone its text is still some 9 px high."""

_INK, _MUTED, _GRID, _BAND = "#1a1a1a", "#6b6b6b", "#d9d9d9", "#eeeeee"
_BASE, _LOCAL, _GLOBAL = "#595959", "#d55e00", "#0072b2"
_SERIES = (_GLOBAL, _LOCAL, "#009e73", "#aa4499", "#8a6d00", _BASE)  # after Okabe & Ito
_VARIABLES = {
    _INK: "currentColor",
    _MUTED: f"var(--muted, {_MUTED})",
    _GRID: f"var(--grid, {_GRID})",
    _BAND: f"var(--band, {_BAND})",
    **{colour: f"var(--c{i}, {colour})" for i, colour in enumerate(_SERIES)},
}
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", "h", ">", "p", "*")
_FAMILY_STYLE: dict[Family, tuple[str, str]] = {
    "base": (_BASE, "s"),
    "local": (_LOCAL, "^"),
    "global": (_GLOBAL, "o"),
}
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": 10.0,
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}


def forest(finding: Finding, key: str) -> Markup:
    """AUROC with its interval for each site and, below, the within-site one, a mark per family.

    `key` keeps the ids of several plots on a page apart.
    """
    rows: list[tuple[str, list[tuple[Family, float | None, Interval | None, str]]]] = [
        (row.site, [_point(f, row.cells.get(f)) for f in finding.families]) for row in finding.rows
    ]
    whole = [(f, finding.overall[f]) for f in finding.families]
    rows.append(
        ("Within-site, all", [
            (f, o.within if o else None, o.within_ci if o else None,
             "" if o and known(o.within) else "no figure")
            for f, o in whole
        ])
    )  # fmt: skip
    step = len(finding.families) + 1.0
    height = 13.0 * step * len(rows) + 42
    low = min([0.45, *(i[0] for _, points in rows for _, v, i, _ in points if known(v) and i)])
    low = int(low * 10) / 10
    with _style(key):
        figure, axes = _figure(height, left=112, bottom=34, top=6)
        axes.set_xlim(low, 1.0)
        axes.set_ylim(len(rows) * step - 0.5, -0.5)
        axes.axvline(0.5, color=_MUTED, linewidth=0.7, dashes=(3, 3))
        for index, (name, points) in enumerate(rows):
            top, total = index * step, index == len(rows) - 1
            if total:
                axes.axhspan(top - 0.5, top + step - 0.5, color=_BAND, linewidth=0, zorder=0)
            lines = _label(name)
            for number, line in enumerate(lines):  # one text each: the browser aligns it
                y = top + (step - 2) / 2 + (number - (len(lines) - 1) / 2) * 0.95
                axes.text(
                    low - 0.02 * (1 - low), y, line, ha="right", va="center_baseline",
                    weight="bold" if total else "normal",
                )  # fmt: skip
            if len({why for *_, why in points}) == 1 and points[0][3]:
                _draw_reason(axes, top + (step - 2) / 2, points[0][3])
                continue
            for number, (family, value, interval, why) in enumerate(points):
                if value is None or not known(value):
                    _draw_reason(axes, top + number, f"{FAMILIES[family]}: {why}")
                else:
                    _draw_point(axes, top + number, family, value, interval)
        axes.set_xlabel("AUROC")
        axes.set_yticks([])
        axes.grid(axis="x", color=_GRID, linewidth=0.5)
        return _svg(
            figure,
            f"Forest plot: AUROC with interval of each model at each site, {finding.outcome}. "
            "The table above holds the same figures.",
        )


def curve(
    rounds: Sequence[Round],
    values: dict[str, list[float | None]],
    quantity: str,
    key: str,
    *,
    chance: float | None = None,
) -> Markup:
    """One figure per site over the rounds, stages as bands.

    `values`: site -> a value for each round. `chance`: where a level is worth a line, 0.5 for an
    AUROC. Empty where there is no value at all.
    """
    numbers = [r.round for r in rounds]
    given = [v for of_site in values.values() for v in of_site if v is not None and known(v)]
    if not given:
        return Markup("")
    bottom, top = min([*given, *([chance] if chance else [])]), max(given)
    pad = 0.06 * (top - bottom) or 0.05
    with _style(key):
        figure, axes = _figure(184, left=44, bottom=34, top=24)
        axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
        axes.set_ylim(bottom - pad, top + pad if chance is None else min(top + pad, 1.01))
        _draw_stages(axes, rounds)
        if chance is not None:
            axes.axhline(chance, color=_MUTED, linewidth=0.7, dashes=(3, 3))
        for index, of_site in enumerate(values.values()):
            colour, marker, style = _site_style(index)
            axes.plot(
                numbers, [float("nan") if v is None else v for v in of_site], color=colour,
                marker=marker, linestyle=style, linewidth=1.2, markersize=4,
                markevery=max(1, len(numbers) // 15), markeredgewidth=0,
            )  # fmt: skip
        axes.set_xlabel("Round")
        axes.set_ylabel(quantity)
        axes.locator_params(axis="x", integer=True)
        axes.grid(axis="y", color=_GRID, linewidth=0.5)
        return _svg(
            figure, f"{quantity} per round and site. The tables below hold the same figures."
        )


def family_swatch(family: Family, key: str) -> Markup:
    """The mark of a model family in the forest plot, for a legend."""
    colour, marker = _FAMILY_STYLE[family]
    return _swatch(colour, marker, "-", f"{key}-{family}")


def site_swatch(index: int, key: str) -> Markup:
    """The line of the `index`-th site in the curves, for a legend."""
    return _swatch(*_site_style(index), f"{key}-{index}")


def _style(key: str) -> AbstractContextManager[None]:
    """matplotlib's settings while a plot is drawn; those of the process come back after it."""
    settings: dict[Any, Any] = {**_SETTINGS, "svg.hashsalt": key}
    return matplotlib.rc_context(settings)


def _point(family: Family, cell: Cell | None) -> tuple[Family, float | None, Interval | None, str]:
    if cell is None or not known(cell.auroc):
        return family, None, None, why_empty(cell)
    return family, cell.auroc, cell.ci, ""


def _draw_point(
    axes: Axes, y: float, family: Family, value: float, interval: Interval | None
) -> None:
    colour, marker = _FAMILY_STYLE[family]
    if interval:
        axes.plot(interval, (y, y), color=colour, linewidth=1.4, solid_capstyle="butt")
    axes.plot([value], [y], color=colour, marker=marker, markersize=5.5, markeredgewidth=0)


def _draw_reason(axes: Axes, y: float, why: str) -> None:
    axes.text(0.51, y, why, va="center_baseline", size=8.5, style="italic", color=_MUTED)


def _draw_stages(axes: Axes, rounds: Sequence[Round]) -> None:
    """Shade every other stage and name each above the plot; names of narrow ones are staggered."""
    starts = [i for i, r in enumerate(rounds) if i == 0 or rounds[i - 1].stage != r.stage]
    raised = False
    for index, start in enumerate(starts):
        end = starts[index + 1] if index + 1 < len(starts) else len(rounds)
        low, high = rounds[start].round - 0.5, rounds[end - 1].round + 0.5
        if index % 2 == 0:
            axes.axvspan(low, high, color=_BAND, linewidth=0, zorder=0)
        share = (high - low) / (rounds[-1].round - rounds[0].round + 1)
        narrow = share * (WIDTH - 54) < 5.5 * len(rounds[start].stage)
        raised = narrow and not raised
        axes.annotate(
            rounds[start].stage, ((low + high) / 2, 1.0), xytext=(0, 13 if raised else 3),
            xycoords=("data", "axes fraction"), textcoords="offset points", ha="center", size=8.5,
            color=_MUTED, annotation_clip=False,
        )  # fmt: skip


def _site_style(index: int) -> tuple[str, str, str]:
    marker = _MARKERS[index % len(_MARKERS)]
    return _SERIES[index % len(_SERIES)], marker, "-" if index % 12 < len(_SERIES) else "--"


def _swatch(colour: str, marker: str, style: str, key: str) -> Markup:
    with _style(key):
        figure = Figure(figsize=(26 / 72, 11 / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.plot(
            [0, 1, 2], [0, 0, 0], color=colour, marker=marker, linestyle=style, linewidth=1.4,
            markersize=5.5, markevery=[1], markeredgewidth=0,
        )  # fmt: skip
        axes.set_ylim(-1, 1)
        return _svg(figure, None)


def _label(name: str) -> list[str]:
    """A site's name on at most three lines of the margin."""
    lines = textwrap.wrap(name, 18) or [name]
    return lines if len(lines) <= 3 else [*lines[:2], f"{lines[2][:17]}…"]


def _figure(height: float, *, left: float, bottom: float, top: float) -> tuple[Figure, Axes]:
    """A figure with one plot; margins in points."""
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    axes = figure.add_axes(
        (left / WIDTH, bottom / height, (WIDTH - left - 10) / WIDTH,
         (height - bottom - top) / height)
    )  # fmt: skip
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=2.5)
    return figure, axes


def _svg(figure: Figure, description: str | None) -> Markup:
    """The figure as an `<svg>` element for HTML. Without a description it is decoration."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    drawing = file.getvalue()
    box = re.search(r'viewBox="[^"]*"', drawing)
    start = drawing.index("<svg")
    body = drawing[drawing.index(">", start) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r"<style.*?</style>\s*", "", body, flags=re.DOTALL)  # would rule the whole page
    body = re.sub(r'(style="[^"<>]*?)font-family: [^";<>]*;? ?', r"\1", body)
    body = re.sub(r"(?<=: )#[0-9a-f]{6}(?=[;\"])", lambda m: _VARIABLES.get(m[0], m[0]), body)
    says = f'role="img" aria-label="{escape(description)}"' if description else 'aria-hidden="true"'
    return Markup(f"<svg {box[0] if box else ''} {says}>{body.strip()}")
