"""Plots of a model over all thresholds: ROC, calibration, net benefit."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from fedrad.server.results.parts import Cell, NetBenefitPoint

from .drawing import GRID, MUTED, plot, site_style, styled, svg

SIDE = 330.0
"""Side of a square plot, in points."""


def roc(cells: Mapping[str, Cell | None], key: str) -> Markup:
    """Plot the ROC curve of one model at each site, with a mark at the common threshold.

    Parameters
    ----------
    cells
        Site -> cell of the model, in the order of the legend.
    key
        Makes the ids of the plot unique on the page.

    Returns
    -------
    Markup
        The plot; empty if no site has a curve.
    """
    if not any(cell and cell.roc for cell in cells.values()):
        return Markup("")
    with styled(key):
        figure, axes = plot(SIDE, left=44, bottom=34, top=8)
        _square(axes, "1 − specificity", "Sensitivity")
        for index, cell in enumerate(cells.values()):
            if cell is None or not cell.roc:
                continue
            colour, marker, line = site_style(index)
            false, true = zip(*cell.roc, strict=True)
            axes.plot(false, true, color=colour, linestyle=line, linewidth=1.3)
            if cell.decisions.sensitivity is not None and cell.decisions.specificity is not None:
                axes.plot(
                    [1 - cell.decisions.specificity],
                    [cell.decisions.sensitivity],
                    color=colour,
                    marker=marker,
                    markersize=7,
                    markeredgewidth=0,
                )
        return svg(
            figure,
            "ROC curves of the global model, one per site, with a mark at the common threshold. "
            "The table of sensitivity and specificity holds the marked points.",
        )


def calibration(cells: Mapping[str, Cell | None], key: str) -> Markup:
    """Plot the share with the outcome over the mean probability, one line per site. Empty without a
    curve."""
    if not any(cell and cell.calibration_curve for cell in cells.values()):
        return Markup("")
    with styled(key):
        figure, axes = plot(SIDE, left=44, bottom=34, top=8)
        _square(axes, "Calibrated probability, mean of a group", "Share with the outcome")
        for index, cell in enumerate(cells.values()):
            if cell is None or not cell.calibration_curve:
                continue
            colour, marker, line = site_style(index)
            points = cell.calibration_curve
            axes.plot(
                [p.probability for p in points],
                [p.observed for p in points],
                color=colour,
                linestyle=line,
                linewidth=1.2,
                marker=marker,
                markersize=5,
                markeredgewidth=0,
            )
        return svg(
            figure,
            "Calibration curves of the global model, one per site: share of patients with the "
            "outcome over mean probability. The table below has the same figures.",
        )


def benefit(points: Sequence[NetBenefitPoint], key: str) -> Markup:
    """Plot net benefit over threshold probabilities, with treating all and treating no patient."""
    if not points:
        return Markup("")
    thresholds = [p.threshold for p in points]
    with styled(key):
        figure, axes = plot(200, left=52, bottom=34, top=8)
        axes.fill_between(
            thresholds,
            [p.value - p.bound for p in points],
            [p.value + p.bound for p in points],
            color="#0072b2",
            alpha=0.25,
            linewidth=0,
        )
        axes.plot(thresholds, [p.value for p in points], color="#0072b2", linewidth=1.5)
        shown = [p for p in points if p.treat_all >= min(0, *(q.value for q in points)) - 0.05]
        axes.plot(
            [p.threshold for p in shown],
            [p.treat_all for p in shown],
            color=MUTED,
            linewidth=1.1,
            linestyle="--",
        )
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_xlabel("Threshold probability")
        axes.set_ylabel("Net benefit")
        axes.grid(color=GRID, linewidth=0.5)
        return svg(
            figure,
            "Net benefit of the global model over threshold probabilities, with treating all "
            "patients (dashed) and no patient (zero). The table below holds some of the figures.",
        )


def _square(axes: Axes, across: str, up: str) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_aspect("equal", anchor="W")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7, dashes=(3, 3))
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(color=GRID, linewidth=0.5)
