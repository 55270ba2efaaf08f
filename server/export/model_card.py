"""The model card: purpose of a model, its training and test patients, figures and limits.

It follows Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv 1810.03993). Its only
sources are the summary and the model's record.
"""

from pathlib import Path

from fedrad.exchange.experiment import Experiment
from fedrad.models.record import ModelRecord
from fedrad.server.results.summary import Interval, Summary
from fedrad.system.templates import template_environment

TEMPLATES = Path(__file__).parent / "templates"
FEW = 20
"""With fewer test units of a class than this, a site's figures are called exploratory."""


def model_card(summary: Summary, record: ModelRecord) -> str:
    """The model card of a completed experiment's model, in Markdown."""
    environment = template_environment(TEMPLATES, html=False)
    environment.keep_trailing_newline = True
    environment.filters.update(figure=_figure, counts=_counts, inline=_inline)
    trained = {s for r in summary.rounds for s, of in r.sites.items() if of.status == "ok"}
    small = [
        f"{c.site} ({c.outcome}: {c.positives} with, {c.negatives} without)"
        for c in summary.cells
        if c.model == "global"
        and c.positives is not None
        and c.negatives is not None
        and min(c.positives, c.negatives) < FEW
    ]
    return environment.get_template("model_card.md.j2").render(
        summary=summary,
        record=record,
        experiment=Experiment.model_validate(summary.experiment),
        trained=sorted(trained),
        small=small,
        few=FEW,
        cells=[c for c in summary.cells if c.model == "global"],
        overall={(o.model, o.outcome): o for o in summary.overall},
    )


def _figure(value: float | None, interval: Interval | None = None) -> str:
    """`0.81 [0.74–0.87]`; a dash if there is no figure."""
    if value is None:
        return "–"
    if interval is None:
        return f"{value:.2f}"
    return f"{value:.2f} [{interval[0]:.2f}–{interval[1]:.2f}]"


def _counts(value: tuple[int | None, int | None] | None) -> str:
    """`12 / 30`: numbers with and without the outcome; a dash if withheld."""
    with_, without = value or (None, None)
    return f"{'–' if with_ is None else with_} / {'–' if without is None else without}"


def _inline(text: str) -> str:
    """Text from a site or user, made safe for a line or a table cell."""
    return " ".join(text.split()).replace("|", "/").replace("<", "&lt;")
