"""Draws plots with matplotlib, as SVG elements of a page.

Text is selectable, colours follow the page (light or dark), and equal figures give equal bytes.
pyplot, which has global state, is not used.
"""

import io
import re
from contextlib import AbstractContextManager
from html import escape
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .outcome_results import Family

WIDTH = 440.0
"""Width of a plot in points, such that its text is about 9 px high on a telephone."""

INK, MUTED, GRID, BAND = "#1a1a1a", "#6b6b6b", "#d9d9d9", "#eeeeee"
_BASE, _LOCAL, _GLOBAL = "#595959", "#d55e00", "#0072b2"
_SERIES = (_GLOBAL, _LOCAL, "#009e73", "#aa4499", "#8a6d00", _BASE)  # after Okabe & Ito
_VARIABLES = {
    INK: "currentColor",
    MUTED: f"var(--muted, {MUTED})",
    GRID: f"var(--grid, {GRID})",
    BAND: f"var(--band, {BAND})",
    **{colour: f"var(--c{i}, {colour})" for i, colour in enumerate(_SERIES)},
}
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", "h", ">", "p", "*")
FAMILY_STYLE: dict[Family, tuple[str, str]] = {
    "base": (_BASE, "s"),
    "local": (_LOCAL, "^"),
    "global": (_GLOBAL, "o"),
}
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def styled(key: str) -> AbstractContextManager[None]:
    """Use the report's matplotlib settings within a block, with `key` as salt of the ids."""
    settings: dict[Any, Any] = {**_SETTINGS, "svg.hashsalt": key}
    return matplotlib.rc_context(settings)


def family_swatch(family: Family, key: str) -> Markup:
    """Mark of a model family in the forest plot, for a legend."""
    colour, marker = FAMILY_STYLE[family]
    return _swatch(colour, marker, "-", f"{key}-{family}")


def site_swatch(index: int, key: str) -> Markup:
    """Line of the `index`-th site in the curves, for a legend."""
    return _swatch(*site_style(index), f"{key}-{index}")


def site_style(index: int) -> tuple[str, str, str]:
    """Colour, marker and line of the `index`-th site."""
    marker = _MARKERS[index % len(_MARKERS)]
    return _SERIES[index % len(_SERIES)], marker, "-" if index % 12 < len(_SERIES) else "--"


def _swatch(colour: str, marker: str, style: str, key: str) -> Markup:
    with styled(key):
        figure = Figure(figsize=(26 / 72, 11 / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.plot(
            [0, 1, 2],
            [0, 0, 0],
            color=colour,
            marker=marker,
            linestyle=style,
            linewidth=1.4,
            markersize=5.5,
            markevery=[1],
            markeredgewidth=0,
        )
        axes.set_ylim(-1, 1)
        return svg(figure, None)


def plot(height: float, *, left: float, bottom: float, top: float) -> tuple[Figure, Axes]:
    """A figure with one plot; margins in points."""
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    axes = figure.add_axes(
        (
            left / WIDTH,
            bottom / height,
            (WIDTH - left - 10) / WIDTH,
            (height - bottom - top) / height,
        )
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=2.5)
    return figure, axes


def svg(figure: Figure, description: str | None) -> Markup:
    """The figure as an `<svg>` element. Without a description, screen readers ignore it."""
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
    body = re.sub(
        r"<style.*?</style>\s*", "", body, flags=re.DOTALL
    )  # would apply to the whole page
    body = re.sub(r'(style="[^"<>]*?)font-family: [^";<>]*;? ?', r"\1", body)
    body = re.sub(r"(?<=: )#[0-9a-f]{6}(?=[;\"])", lambda m: _VARIABLES.get(m[0], m[0]), body)
    role = f'role="img" aria-label="{escape(description)}"' if description else 'aria-hidden="true"'
    return Markup(f"<svg {box[0] if box else ''} {role}>{body.strip()}")
