"""One experiment, from the first question to the sites to the report, on one page."""

import importlib.metadata
import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import torch
from flwr.serverapp import Grid

from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.lineage import Ancestor, Lineage, read_lineage, write_lineage
from fedrad.exchange.messages import Missing, ModelName, Readiness, Scores
from fedrad.models.calibration import Calibration
from fedrad.models.weight_files import file_sha256
from fedrad.models.weights import Base, load_base, save

from .calibration import calibrate
from .ensemble import choose_ensemble
from .federation import ExperimentFailed, Federation
from .records import Records
from .report import write_report
from .statistics import best_threshold
from .summary import (
    DEFAULT_THRESHOLD,
    Ensemble,
    Provenance,
    Round,
    SiteEntry,
    Summary,
    cells_and_overall,
)

log = logging.getLogger("fedrad.server")


def run_experiment(grid: Grid, text: str, folder: Path, *, wait_seconds: float) -> Summary:
    """Run the experiment of a file's text over the sites of a grid; leave its results in a folder.

    `wait_seconds`: how long to wait for sites to come. Raises ExperimentFailed or WeightsError
    before anything is written where it cannot start; once sites have met, a failure leaves a
    summary and report of what there is before it is raised.
    """
    experiment = parse_experiment(text)
    base = load_base(
        experiment.model, len(experiment.outcomes), seed=experiment.seed,
        dropout=experiment.recipe.dropout,
    )  # fmt: skip
    lineage = read_lineage(base.metadata)
    started = _now()
    if (folder / "experiment.toml").exists():
        raise ExperimentFailed(f"{folder}: holds an experiment already; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.toml").write_text(text, encoding="utf-8")
    records = Records(folder / "records.sqlite")
    federation = Federation(grid, experiment, base, records, folder)
    results = _Results()
    try:
        log.info("Evaluation plan %s", experiment.evaluation_sha256[:12])
        federation.meet(wait_seconds)
        _train(federation, results)
        _evaluate(federation, results)
        results.status = "completed"
    except ExperimentFailed as failure:
        results.why = str(failure)
        raise
    except KeyboardInterrupt:
        results.status, results.why = "stopped", "stopped by the coordinator"
        raise
    finally:
        summary = _write(federation, results, base, lineage, started, folder)
        records.close()
    return summary


class _Results:
    """What has been found so far; the summary is written from it however the run ends."""

    def __init__(self) -> None:
        self.status = "failed"
        self.why: str | None = "an unexpected error; see the log"
        self.rounds: list[Round] = []
        self.ensemble: Ensemble | None = None
        self.calibration: dict[str, Calibration | None] = {}
        self.thresholds: dict[str, float | None] = {}
        self.scores: dict[str, list[Scores]] = {}
        self.missing: dict[str, Missing] = {}


def _train(federation: Federation, results: _Results) -> None:
    schedule = federation.schedule
    for number in range(schedule.rounds):
        log.info("Round %d of %d, stage %s", number + 1, schedule.rounds, schedule.stage(number))
        results.rounds.append(federation.round(number))
    if federation.experiment.evaluation.local_baseline:
        log.info("Local-only models, for comparison")
        federation.baselines()


def _evaluate(federation: Federation, results: _Results) -> None:
    """What validation patients decide first: mixture with the base, threshold, calibration. Then
    the test patients, once."""
    results.ensemble = choose_ensemble(federation)
    log.info("Thresholds and calibration from the validation patients")
    validation, _ = federation.scores("validation", ["global"], {})
    for outcome in federation.experiment.outcomes:
        histograms = [
            s.histogram
            for of_site in validation.values()
            for s in of_site
            if s.outcome == outcome and s.histogram
        ]
        results.thresholds[outcome] = best_threshold(histograms)
        results.calibration[outcome] = calibrate(histograms)
    log.info("Test patients")
    models: list[ModelName] = ["base", "local", "global"]
    if not federation.experiment.evaluation.local_baseline:
        models.remove("local")
    thresholds = {
        outcome: DEFAULT_THRESHOLD if chosen is None else chosen
        for outcome, chosen in results.thresholds.items()
    }
    results.scores, results.missing = federation.scores("test", models, thresholds)


def _write(
    federation: Federation, results: _Results, base: Base, lineage: Lineage, started: str,
    folder: Path,
) -> Summary:  # fmt: skip
    experiment, sites = federation.experiment, sorted(federation.sites)
    models = ["base", *(f"local:{site}" for site in sites), "global"]
    cells, overall = cells_and_overall(
        results.scores,
        {site: results.missing.get(site, "not run") for site in sites},
        models,
        experiment.outcomes,
        results.thresholds,
        experiment.evaluation.confidence,
    )
    if experiment.unit == "image":  # histograms do not tell which images are of one patient
        overall = [o.model_copy(update={"pooled_ci": None}) for o in overall]
    model_file = folder / "model.safetensors"
    if results.status == "completed":
        trained = {
            s for r in results.rounds for s, of_site in r.sites.items() if of_site.status == "ok"
        }
        own = Ancestor(experiment=experiment.identity, sites=tuple(sorted(trained)))
        save(
            model_file, federation.network, outputs=list(experiment.outcomes),
            description=f"global model of {experiment.name}", base_sha256=base.digest,
            calibration=json.dumps(
                {k: c.model_dump() if c else None for k, c in results.calibration.items()}
            ),
            ensemble_alpha=repr(results.ensemble.alpha if results.ensemble else 1.0),
            **write_lineage((*lineage, own)),
        )  # fmt: skip
    summary = Summary(
        experiment=experiment.model_dump(mode="json"),
        evaluation_sha256=experiment.evaluation_sha256,
        status=results.status,  # type: ignore[arg-type]
        why=None if results.status == "completed" else results.why,
        models=models,
        sites=sites,
        cells=cells,
        overall=overall,
        rounds=results.rounds,
        provenance=Provenance(
            fedrad=importlib.metadata.version("fedrad"),
            flwr=importlib.metadata.version("flwr"),
            torch=torch.__version__,
            base_sha256=base.digest,
            base_description=base.description,
            model_sha256=file_sha256(model_file) if model_file.is_file() else None,
            started=started,
            finished=_now(),
        ),
        site_entries={site: _entry(federation.sites[site]) for site in sites},
        absent=federation.absent,
        ensemble=results.ensemble,
        calibration=results.calibration,
    )
    summary.write(folder)
    write_report(folder)
    return summary


def _entry(readiness: Readiness) -> SiteEntry:
    return SiteEntry(
        **readiness.model_dump(
            include={
                "trains", "does_not_train_because", "device", "threads", "fedrad", "torch",
                "set_aside",
            }
        ),
        units={
            part: {outcome: (c.positives, c.negatives) for outcome, c in of_part.items()}
            for part, of_part in readiness.units.items()
        },
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
