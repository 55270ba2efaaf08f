"""`summary.json`: all data of the report. New versions only add fields."""

import csv
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fedrad.exchange.figures import Missing, ProbabilityFigures, RankFigures
from fedrad.models.calibration import Calibration
from fedrad.models.tasks import MonitoredFigure
from fedrad.stats.intervals import Interval
from fedrad.system.files import LARGEST_RECORD, read_regular, replacing, write_whole

from .parts import (
    PROBABILITIES,
    Cell,
    ComparisonFigures,
    Gap,
    Overall,
    SubgroupFigures,
    SummaryPart,
)

__all__ = [
    "BestModel",
    "Candidate",
    "Cell",
    "ComparisonFigures",
    "Ensemble",
    "Gap",
    "Interval",
    "Overall",
    "Provenance",
    "Round",
    "SiteEntry",
    "SiteRound",
    "SubgroupFigures",
    "Summary",
    "read_summary",
]


CELL_COLUMNS = (
    "model",
    "site",
    "outcome",
    "auroc",
    "ci_low",
    "ci_high",
    "positives",
    "negatives",
    "sensitivity",
    "specificity",
    "missing",
    "prevalence",
    "average_precision",
    "ppv",
    "npv",
    "brier",
    "site_brier",
    "calibration_intercept",
    "calibration_slope",
    "ece",
)
"""First columns of `cells.csv`, in fixed order. Later figures are appended."""


def cell_columns() -> list[str]:
    """All columns of `cells.csv`."""
    exact = [*RankFigures.model_fields, *map(PROBABILITIES.key, ProbabilityFigures.model_fields)]
    return list(dict.fromkeys([*CELL_COLUMNS, *exact]))


class SiteRound(SummaryPart):
    """A site in a round. `status`: ok, evaluated, refused, lost, timeout, invalid."""

    status: str
    why: str | None = None
    seconds: float | None = None
    units: int | None = None
    loss: float | None = None
    auroc: dict[str, float | None] = Field(default_factory=dict)
    """Outcome -> AUROC of the model with which the round started, on the site's validation
    patients."""
    validation_loss: dict[str, float | None] = Field(default_factory=dict)
    """Outcome -> loss of the same model on the same patients; for a generator the mean squared
    denoising error."""
    missing: dict[str, Missing] = Field(default_factory=dict)
    """Outcome -> why there is no AUROC."""
    epsilon: float | None = None
    """Privacy cost of the site's monitoring in the whole experiment; None where its noise is not
    accounted."""
    norm: float | None = None
    """Norm of the update as the site sent it, without running statistics."""
    clipped: bool = False
    """Whether the update was scaled down to `federation.clip`, or a running statistic limited."""
    share: float | None = None
    """The site's share in the weighted mean; None where the strategy counts each site once."""
    limited_by: Literal["declared", "share"] | None = None
    """Why the share is smaller than the site's answer would give: the count that the site declared,
    or `federation.largest_share`."""

    def monitored(self, figure: MonitoredFigure) -> dict[str, float | None]:
        """Outcome -> the figure that the experiment's task monitors over the rounds."""
        return {"auroc": self.auroc, "loss": self.validation_loss}[figure.key]


class Round(SummaryPart):
    """A round, counted from 1. Bytes are those of the exchanged tensors."""

    round: int
    stage: str
    seconds: float
    bytes_to_sites: int
    bytes_from_sites: int
    sites: dict[str, SiteRound]
    norm: float | None = None
    """Norm of the step of the global model, before it was scaled down."""
    clipped: bool = False
    """Whether this step was scaled down to `federation.clip`."""


class SiteEntry(SummaryPart):
    """A site as it reported itself at the start. `units`: part -> outcome -> [positives,
    negatives], None if withheld. `left_out`: patients whom the site's budget leaves out; None if
    withheld."""

    trains: bool
    does_not_train_because: str | None = None
    device: str
    threads: int
    fedrad: str
    release: str | None = None
    """Version and hash of the site's code."""
    torch: str
    set_aside: int
    left_out: int | None = 0
    units: dict[str, dict[str, tuple[int | None, int | None]]]


class Candidate(SummaryPart):
    """A mixture with the base: within-site AUROC on validation patients, mean over outcomes."""

    alpha: float
    auroc: float | None = None


class Ensemble(SummaryPart):
    """The mixture of the final model: `alpha` is the share of the trained backbone, the rest is the
    base. `why`: reason for alpha 1, if no figure was available for the choice."""

    alpha: float
    candidates: list[Candidate]
    why: str | None = None


class BestModel(SummaryPart):
    """The best global model: the one with the largest within-site AUROC on validation patients,
    mean over outcomes.

    It is the model after round `round` (0: the base with a new head). If it is not the final model,
    it is tested too, as model "best".
    """

    round: int
    auroc: float
    final: bool


class Provenance(SummaryPart):
    """Software, weights and times of the experiment."""

    fedrad: str
    release: str | None = None
    """Version and hash of the coordinator's code, by which the summary was written."""
    flwr: str
    torch: str
    base_sha256: str
    base_description: str
    model_sha256: str | None
    started: str
    finished: str


class Summary(SummaryPart):
    """The content of `summary.json`."""

    format: Literal[1] = 1
    experiment: dict[str, Any]
    evaluation_sha256: str
    status: Literal["completed", "stopped", "failed"]
    why: str | None = None
    models: list[str]
    sites: list[str]
    cells: list[Cell]
    overall: list[Overall]
    rounds: list[Round]
    provenance: Provenance
    site_entries: dict[str, SiteEntry] = Field(default_factory=dict)
    absent: dict[str, str] = Field(default_factory=dict)
    """Site or node that was asked and did not take part -> the reason."""
    ensemble: Ensemble | None = None
    """None if the experiment asks for no mixture with the base."""
    calibration: dict[str, Calibration | None] = Field(default_factory=dict)
    """Outcome -> from raw to calibrated logits of the global model; None if the sites' released
    figures on validation patients lack a class."""
    held_out: list[Overall] = Field(default_factory=list)
    """Figures over the held-out sites, which took no part in training or choices. No other figure
    over sites includes them."""
    best: BestModel | None = None
    """None if no site could release a validation AUROC."""
    comparisons: list[ComparisonFigures] = Field(default_factory=list)
    subgroups: list[SubgroupFigures] = Field(default_factory=list)
    gaps: list[Gap] = Field(default_factory=list)
    epsilon: dict[str, float] = Field(default_factory=dict)
    """Site -> privacy loss ε of all its noisy histograms for one patient; only sites with noise."""

    def write(self, folder: Path) -> None:
        """Write `summary.json`, `cells.csv`, `rounds.csv` into the experiment's folder."""
        write_whole(folder / "summary.json", self.model_dump_json(indent=1))
        with (
            replacing(folder / "cells.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            cells = csv.DictWriter(file, cell_columns(), extrasaction="ignore")
            cells.writeheader()
            for c in self.cells:
                low, high = c.ci or (None, None)
                cells.writerow({**c.model_dump(), "ci_low": low, "ci_high": high})
        with (
            replacing(folder / "rounds.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            table = csv.writer(file)
            table.writerow(
                [
                    "round",
                    "stage",
                    "seconds",
                    "bytes_to_sites",
                    "bytes_from_sites",
                    "site",
                    "status",
                    "site_seconds",
                    "units",
                    "loss",
                    "outcome",
                    "validation_auroc",
                ]
            )
            for r in self.rounds:
                for site, s in r.sites.items():
                    for outcome, auroc in (s.auroc or {"": None}).items():
                        table.writerow(
                            [
                                r.round,
                                r.stage,
                                r.seconds,
                                r.bytes_to_sites,
                                r.bytes_from_sites,
                                site,
                                s.status,
                                s.seconds,
                                s.units,
                                s.loss,
                                outcome,
                                auroc,
                            ]
                        )


def read_summary(folder: Path) -> Summary:
    """Read the summary of an experiment's folder.

    Raises
    ------
    FileNotFoundError
        If there is no `summary.json`.
    pydantic.ValidationError
        If the file is not a summary.
    """
    return Summary.model_validate_json(read_regular(folder / "summary.json", LARGEST_RECORD))
