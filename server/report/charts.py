"""Plots: the forest plot of models at sites, and figures over the rounds."""

import textwrap
from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from fedrad.server.results.summary import Cell, Interval, Round

from .drawing import BAND, FAMILY_STYLE, GRID, MUTED, WIDTH, plot, site_style, styled, svg
from .outcome_results import FAMILIES, Family, OutcomeResult, is_known, why_empty


def forest(result: OutcomeResult, key: str) -> Markup:
    """Forest plot: AUROC with interval of each site and, below, within-site, one mark per family.

    Parameters
    ----------
    result
        Results of one outcome.
    key
        Makes the ids of the plot unique on the page.
    """
    rows: list[tuple[str, list[tuple[Family, float | None, Interval | None, str]]]] = [
        (row.site, [_point(f, row.cells.get(f)) for f in result.families]) for row in result.rows
    ]
    whole = [(f, result.overall[f]) for f in result.families]
    rows.append(
        (
            "Within-site, all",
            [
                (
                    f,
                    o.within if o else None,
                    o.within_ci if o else None,
                    "" if o and is_known(o.within) else "no figure",
                )
                for f, o in whole
            ],
        )
    )
    step = len(result.families) + 1.0
    height = 13.0 * step * len(rows) + 42
    low = min([0.45, *(i[0] for _, points in rows for _, v, i, _ in points if is_known(v) and i)])
    low = int(low * 10) / 10
    with styled(key):
        figure, axes = plot(height, left=112, bottom=34, top=6)
        axes.set_xlim(low, 1.0)
        axes.set_ylim(len(rows) * step - 0.5, -0.5)
        axes.axvline(0.5, color=MUTED, linewidth=0.7, dashes=(3, 3))
        for index, (name, points) in enumerate(rows):
            top, total = index * step, index == len(rows) - 1
            if total:
                axes.axhspan(top - 0.5, top + step - 0.5, color=BAND, linewidth=0, zorder=0)
            lines = _label(name)
            for number, line in enumerate(
                lines
            ):  # one text per line, so that the browser aligns them
                y = top + (step - 2) / 2 + (number - (len(lines) - 1) / 2) * 0.95
                axes.text(
                    low - 0.02 * (1 - low),
                    y,
                    line,
                    ha="right",
                    va="center_baseline",
                    weight="bold" if total else "normal",
                )
            if len({why for *_, why in points}) == 1 and points[0][3]:
                _draw_reason(axes, top + (step - 2) / 2, points[0][3])
                continue
            for number, (family, value, interval, why) in enumerate(points):
                if value is None or not is_known(value):
                    _draw_reason(axes, top + number, f"{FAMILIES[family]}: {why}")
                else:
                    _draw_point(axes, top + number, family, value, interval)
        axes.set_xlabel("AUROC")
        axes.set_yticks([])
        axes.grid(axis="x", color=GRID, linewidth=0.5)
        return svg(
            figure,
            f"Forest plot: AUROC with interval of each model at each site, {result.outcome}. "
            "The table above holds the same figures.",
        )


def over_rounds(
    rounds: Sequence[Round],
    values: dict[str, list[float | None]],
    quantity: str,
    key: str,
    *,
    chance: float | None = None,
) -> Markup:
    """Plot one figure of each site over the rounds, with the stages as bands.

    Parameters
    ----------
    rounds
        The rounds.
    values
        Site -> a value for each round.
    quantity
        Name of the figure, for axis and description.
    key
        Makes the ids of the plot unique on the page.
    chance
        Level of a dashed line, 0.5 for an AUROC; None for no line.

    Returns
    -------
    Markup
        The plot; empty if there is no value.
    """
    numbers = [r.round for r in rounds]
    given = [v for of_site in values.values() for v in of_site if v is not None and is_known(v)]
    if not given:
        return Markup("")
    bottom, top = min([*given, *([chance] if chance else [])]), max(given)
    pad = 0.06 * (top - bottom) or 0.05
    with styled(key):
        figure, axes = plot(184, left=44, bottom=34, top=24)
        axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
        axes.set_ylim(bottom - pad, top + pad if chance is None else min(top + pad, 1.01))
        _draw_stages(axes, rounds)
        if chance is not None:
            axes.axhline(chance, color=MUTED, linewidth=0.7, dashes=(3, 3))
        for index, of_site in enumerate(values.values()):
            colour, marker, style = site_style(index)
            axes.plot(
                numbers,
                [float("nan") if v is None else v for v in of_site],
                color=colour,
                marker=marker,
                linestyle=style,
                linewidth=1.2,
                markersize=4,
                markevery=max(1, len(numbers) // 15),
                markeredgewidth=0,
            )
        axes.set_xlabel("Round")
        axes.set_ylabel(quantity)
        axes.locator_params(axis="x", integer=True)
        axes.grid(axis="y", color=GRID, linewidth=0.5)
        return svg(
            figure, f"{quantity} per round and site. The tables below hold the same figures."
        )


def _point(family: Family, cell: Cell | None) -> tuple[Family, float | None, Interval | None, str]:
    if cell is None or not is_known(cell.auroc):
        return family, None, None, why_empty(cell)
    return family, cell.auroc, cell.ci, ""


def _draw_point(
    axes: Axes, y: float, family: Family, value: float, interval: Interval | None
) -> None:
    colour, marker = FAMILY_STYLE[family]
    if interval:
        axes.plot(interval, (y, y), color=colour, linewidth=1.4, solid_capstyle="butt")
    axes.plot([value], [y], color=colour, marker=marker, markersize=5.5, markeredgewidth=0)


def _draw_reason(axes: Axes, y: float, why: str) -> None:
    axes.text(0.51, y, why, va="center_baseline", size=8.5, style="italic", color=MUTED)


def _draw_stages(axes: Axes, rounds: Sequence[Round]) -> None:
    """Shade every other stage and write its name above; names of narrow stages are staggered."""
    starts = [i for i, r in enumerate(rounds) if i == 0 or rounds[i - 1].stage != r.stage]
    raised = False
    for index, start in enumerate(starts):
        end = starts[index + 1] if index + 1 < len(starts) else len(rounds)
        low, high = rounds[start].round - 0.5, rounds[end - 1].round + 0.5
        if index % 2 == 0:
            axes.axvspan(low, high, color=BAND, linewidth=0, zorder=0)
        share = (high - low) / (rounds[-1].round - rounds[0].round + 1)
        narrow = share * (WIDTH - 54) < 5.5 * len(rounds[start].stage)
        raised = narrow and not raised
        axes.annotate(
            rounds[start].stage,
            ((low + high) / 2, 1.0),
            xytext=(0, 13 if raised else 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            size=8.5,
            color=MUTED,
            annotation_clip=False,
        )


def _label(name: str) -> list[str]:
    """The name of a site, on at most three lines of the margin."""
    lines = textwrap.wrap(name, 18) or [name]
    return lines if len(lines) <= 3 else [*lines[:2], f"{lines[2][:17]}…"]
