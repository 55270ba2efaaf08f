"""`summary.json`: everything the report says, as plain data. Fields are only ever added."""

import csv
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fedrad.exchange.figures import Missing, ProbabilityFigures, RankFigures
from fedrad.models.calibration import Calibration
from fedrad.models.tasks import MonitoredFigure
from fedrad.stats.intervals import Interval
from fedrad.system.files import write_whole

from .parts import PROBABILITIES, Cell, ComparisonFigures, Gap, Overall, Part, SubgroupFigures

__all__ = [
    "Best",
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
"""Columns of `cells.csv`, which keep their places; figures added since come after them."""


def cell_columns() -> list[str]:
    """All columns of `cells.csv`."""
    exact = [*RankFigures.model_fields, *map(PROBABILITIES.key, ProbabilityFigures.model_fields)]
    return list(dict.fromkeys([*CELL_COLUMNS, *exact]))


class SiteRound(Part):
    """A site in a round. `status`: ok, evaluated, refused, lost, timeout, invalid."""

    status: str
    why: str | None = None
    seconds: float | None = None
    units: int | None = None
    loss: float | None = None
    auroc: dict[str, float | None] = Field(default_factory=dict)
    """Of the global model as it entered the round, on the site's validation patients."""
    validation_loss: dict[str, float | None] = Field(default_factory=dict)
    """Likewise; of a generator the mean squared denoising error."""
    missing: dict[str, Missing] = Field(default_factory=dict)
    """Outcome -> why there is no AUROC."""

    def monitored(self, figure: MonitoredFigure) -> dict[str, float | None]:
        """Outcome -> the figure that the experiment's task follows over the rounds."""
        return {"auroc": self.auroc, "loss": self.validation_loss}[figure.key]


class Round(Part):
    """A round, counted from 1, with what crossed the wall in it: bytes of tensors."""

    round: int
    stage: str
    seconds: float
    bytes_to_sites: int
    bytes_from_sites: int
    sites: dict[str, SiteRound]


class SiteEntry(Part):
    """A site as it presented itself. `units`: part -> outcome -> [positives, negatives], None
    where withheld."""

    trains: bool
    does_not_train_because: str | None = None
    device: str
    threads: int
    fedrad: str
    torch: str
    set_aside: int
    units: dict[str, dict[str, tuple[int | None, int | None]]]


class Candidate(Part):
    """A mixture with the base: within-site AUROC on validation patients, mean over outcomes."""

    alpha: float
    auroc: float | None = None


class Ensemble(Part):
    """The final model's share of the trained backbone; the rest is the base's. `why` says why it
    is 1 where there was nothing to choose by."""

    alpha: float
    candidates: list[Candidate]
    why: str | None = None


class Best(Part):
    """The global model that did best on validation patients: that which left round `round` (0: the
    base with a new head), by within-site AUROC, mean over outcomes. Where it is not the final one
    it is tested too, as model "best"."""

    round: int
    auroc: float
    final: bool


class Provenance(Part):
    """What made these figures."""

    fedrad: str
    flwr: str
    torch: str
    base_sha256: str
    base_description: str
    model_sha256: str | None
    started: str
    finished: str


class Summary(Part):
    """A whole `summary.json`."""

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
    """Nodes that were asked and did not take part, with the reason."""
    ensemble: Ensemble | None = None
    """None where no mixture with the base was asked for."""
    calibration: dict[str, Calibration | None] = Field(default_factory=dict)
    """Outcome -> from raw to calibrated logits of the global model; None where the validation
    patients of which sites could give figures lack a class."""
    held_out: list[Overall] = Field(default_factory=list)
    """Over the sites that took no part in training or choices; they are in no other figure over
    sites."""
    best: Best | None = None
    """None where no site could release a validation AUROC."""
    comparisons: list[ComparisonFigures] = Field(default_factory=list)
    subgroups: list[SubgroupFigures] = Field(default_factory=list)
    gaps: list[Gap] = Field(default_factory=list)
    epsilon: dict[str, float] = Field(default_factory=dict)
    """Site -> ε that all its noisy histograms cost a patient together; sites without noise are not
    in it."""

    def write(self, folder: Path) -> None:
        """Write `summary.json`, `cells.csv`, `rounds.csv` into the experiment's folder."""
        write_whole(folder / "summary.json", self.model_dump_json(indent=1))
        with (folder / "cells.csv").open("w", newline="", encoding="utf-8") as file:
            cells = csv.DictWriter(file, cell_columns(), extrasaction="ignore")
            cells.writeheader()
            for c in self.cells:
                low, high = c.ci or (None, None)
                cells.writerow({**c.model_dump(), "ci_low": low, "ci_high": high})
        with (folder / "rounds.csv").open("w", newline="", encoding="utf-8") as file:
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
    """The summary of an experiment's folder. Raises FileNotFoundError, or pydantic's
    ValidationError for a file that is none."""
    return Summary.model_validate_json((folder / "summary.json").read_text("utf-8"))
