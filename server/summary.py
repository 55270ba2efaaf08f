"""`summary.json`: everything the report says, as plain data. Fields are only ever added."""

import csv
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from fedrad.exchange.messages import Missing, Scores
from fedrad.models.calibration import Calibration

from .statistics import (
    macro,
    pooled,
    site_estimate,
    site_only,
    within_share,
    within_site,
)

Interval = tuple[float, float]


DEFAULT_THRESHOLD = 0.0
"""A logit of 0: where balanced training puts the border between the classes."""


class Part(BaseModel):
    """Base of the summary's parts."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Cell(Part):
    """One model on one site's test patients, one outcome. `sensitivity` and `specificity` are at
    the common threshold, global model only."""

    model: str
    site: str
    outcome: str
    auroc: float | None = None
    ci: Interval | None = None
    positives: int | None = None
    negatives: int | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    missing: Missing | None = None


class Overall(Part):
    """One model over all sites, one outcome. `model` "local" is each site's own model at home."""

    model: str
    outcome: str
    within: float | None = None
    within_ci: Interval | None = None
    macro: float | None = None
    macro_ci: Interval | None = None
    worst: float | None = None
    worst_site: str | None = None
    pooled: float | None = None
    pooled_ci: Interval | None = None
    bound: float | None = None
    site_only: float | None = None
    within_share: float | None = None
    positives: int = 0
    negatives: int = 0
    threshold: float | None = None
    """Common threshold, a logit; global model only."""
    threshold_from: Literal["validation", "default"] | None = None
    """"default" is a logit of 0, where no site could release both classes of its validation
    patients."""
    sensitivity: float | None = None
    specificity: float | None = None


class SiteRound(Part):
    """A site in a round. `status`: ok, evaluated, refused, lost, timeout, invalid."""

    status: str
    why: str | None = None
    seconds: float | None = None
    units: int | None = None
    loss: float | None = None
    auroc: dict[str, float | None] = {}
    """Of the global model as it entered the round, on the site's validation patients."""
    missing: dict[str, Missing] = {}
    """Outcome -> why there is no AUROC."""


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
    site_entries: dict[str, SiteEntry] = {}
    absent: dict[str, str] = {}
    """Nodes that were asked and did not take part, with the reason."""
    ensemble: Ensemble | None = None
    """None where no mixture with the base was asked for."""
    calibration: dict[str, Calibration | None] = {}
    """Outcome -> from raw to calibrated logits of the global model; None where the validation
    patients that sites could speak of lack a class."""

    def write(self, folder: Path) -> None:
        """Write `summary.json`, `cells.csv`, `rounds.csv` into the experiment's folder."""
        temporary = folder / "summary.partial"
        temporary.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        temporary.replace(folder / "summary.json")
        with (folder / "cells.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(
                ["model", "site", "outcome", "auroc", "ci_low", "ci_high", "positives",
                 "negatives", "sensitivity", "specificity", "missing"]
            )  # fmt: skip
            for c in self.cells:
                low, high = c.ci or (None, None)
                table.writerow(
                    [c.model, c.site, c.outcome, c.auroc, low, high, c.positives, c.negatives,
                     c.sensitivity, c.specificity, c.missing]
                )  # fmt: skip
        with (folder / "rounds.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(
                ["round", "stage", "seconds", "bytes_to_sites", "bytes_from_sites", "site",
                 "status", "site_seconds", "units", "loss", "outcome", "validation_auroc"]
            )  # fmt: skip
            for r in self.rounds:
                for site, s in r.sites.items():
                    for outcome, auroc in (s.auroc or {"": None}).items():
                        table.writerow(
                            [r.round, r.stage, r.seconds, r.bytes_to_sites, r.bytes_from_sites,
                             site, s.status, s.seconds, s.units, s.loss, outcome, auroc]
                        )  # fmt: skip


def read_summary(folder: Path) -> Summary:
    """The summary of an experiment's folder. Raises FileNotFoundError, or pydantic's
    ValidationError for a file that is none."""
    return Summary.model_validate_json((folder / "summary.json").read_text("utf-8"))


def cells_and_overall(
    scores: dict[str, list[Scores]],
    absent: dict[str, Missing],
    models: list[str],
    outcomes: list[str],
    thresholds: dict[str, float | None],
    confidence: float,
) -> tuple[list[Cell], list[Overall]]:
    """From what sites released (site -> scores), or why they did not, to the summary's figures.

    `models`: "base", "global" and "local:SITE" for each site; a local model is scored at home.
    `thresholds`: per outcome, None where none could be chosen on validation patients.
    """
    sites = sorted({*scores, *absent})
    released = {(s.model, site, s.outcome): s for site, of_site in scores.items() for s in of_site}
    cells = []
    for model in models:
        kind, _, home = model.partition(":")
        for site in sites:
            if home and site != home:
                continue
            for outcome in outcomes:
                found = released.get((kind, site, outcome))  # type: ignore[arg-type]
                if found is None:
                    missing = absent.get(site, "not run")
                    cells.append(Cell(model=model, site=site, outcome=outcome, missing=missing))
                else:
                    cells.append(_cell(model, site, found, confidence))
    overall = []
    for kind in dict.fromkeys(model.partition(":")[0] for model in models):
        for outcome in outcomes:
            of_sites = {
                site: s
                for site in sites
                if (s := released.get((kind, site, outcome)))  # type: ignore[arg-type]
                and s.histogram is not None
            }
            figures = _overall(kind, outcome, of_sites, confidence)
            if kind == "global" and outcome in thresholds:
                chosen = thresholds[outcome]
                figures = figures.model_copy(
                    update={
                        "threshold": DEFAULT_THRESHOLD if chosen is None else chosen,
                        "threshold_from": "default" if chosen is None else "validation",
                    }
                )
            overall.append(figures)
    return cells, overall


def _cell(model: str, site: str, scores: Scores, confidence: float) -> Cell:
    estimate = site_estimate(scores, confidence)
    told = scores.histogram is not None
    c = scores.confusion
    return Cell(
        model=model,
        site=site,
        outcome=scores.outcome,
        auroc=estimate.value if estimate else None,
        ci=estimate.interval if estimate else None,
        positives=scores.positives if told else None,
        negatives=scores.negatives if told else None,
        sensitivity=_share(c.true_positives, c.false_negatives) if c else None,
        specificity=_share(c.true_negatives, c.false_positives) if c else None,
        missing=scores.missing,
    )


def _overall(model: str, outcome: str, scores: dict[str, Scores], confidence: float) -> Overall:
    cells = list(scores.values())
    within, mean = within_site(cells, confidence), macro(cells, confidence)
    all_pairs = pooled([s.histogram for s in cells if s.histogram], confidence)
    own = {site: s.auroc for site, s in scores.items() if s.auroc is not None}
    worst = min(own, key=lambda site: own[site]) if own else None
    tables = [s.confusion for s in cells if s.confusion]
    return Overall(
        model=model,
        outcome=outcome,
        within=within.value if within else None,
        within_ci=within.interval if within else None,
        macro=mean.value if mean else None,
        macro_ci=mean.interval if mean else None,
        worst=own[worst] if worst else None,
        worst_site=worst,
        pooled=all_pairs.value if all_pairs else None,
        pooled_ci=all_pairs.interval if all_pairs else None,
        bound=all_pairs.bound if all_pairs else None,
        site_only=site_only(cells),
        within_share=within_share(cells),
        positives=sum(s.positives for s in cells),
        negatives=sum(s.negatives for s in cells),
        sensitivity=_share(
            sum(t.true_positives for t in tables), sum(t.false_negatives for t in tables)
        ),
        specificity=_share(
            sum(t.true_negatives for t in tables), sum(t.false_positives for t in tables)
        ),
    )


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None
