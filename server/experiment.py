"""One experiment, from the first question to the sites to the report, on one page."""

import importlib.metadata
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from flwr.serverapp import Grid

from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.figures import Missing
from fedrad.exchange.lineage import Ancestor, Lineage, read_lineage, write_lineage
from fedrad.exchange.messages import Readiness
from fedrad.models.weight_files import file_sha256
from fedrad.models.weights import Base, load_base, save

from .best import BestRound
from .comparisons import comparisons, subgroups
from .evaluation import Choices, choose, measure, spent
from .federation import ExperimentFailed, Federation
from .figures import Tested, cells, overall
from .records import Records
from .report import write_report
from .summary import Provenance, Round, SiteEntry, Summary

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
        best = BestRound(folder / "checkpoint")
        _train(federation, results, best)
        results.choices = choose(federation, best)
        results.tested = measure(federation, results.choices)
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
        self.choices = Choices()
        self.tested = Tested()


def _train(federation: Federation, results: _Results, best: BestRound) -> None:
    schedule = federation.schedule
    for number in range(schedule.rounds):
        log.info("Round %d of %d, stage %s", number + 1, schedule.rounds, schedule.stage(number))
        results.rounds.append(best.watch(federation, number))
    if federation.experiment.evaluation.local_baseline:
        log.info("Local-only models, for comparison")
        federation.baselines()


def _write(
    federation: Federation, results: _Results, base: Base, lineage: Lineage, started: str,
    folder: Path,
) -> Summary:  # fmt: skip
    experiment, sites = federation.experiment, sorted(federation.sites)
    choices, calibration = results.choices, results.choices.calibration.get("global", {})
    silent: dict[str, Missing] = {
        site: "not run" for site in sites if site not in results.tested.releases
    }
    tested = replace(results.tested, absent=silent | dict(results.tested.absent))
    models = ["base", *(f"local:{site}" for site in sites), "global"]
    models += ["best"] if "best" in choices.models else []
    in_groups, gaps = subgroups(tested, experiment)
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
                {k: c.model_dump() if c else None for k, c in calibration.items()}
            ),
            ensemble_alpha=repr(choices.ensemble.alpha if choices.ensemble else 1.0),
            **write_lineage((*lineage, own)),
        )  # fmt: skip
    summary = Summary(
        experiment=experiment.model_dump(mode="json"),
        evaluation_sha256=experiment.evaluation_sha256,
        status=results.status,  # type: ignore[arg-type]
        why=None if results.status == "completed" else results.why,
        models=models,
        sites=sites,
        cells=cells(tested, models, experiment),
        overall=overall(tested, models, experiment),
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
        ensemble=choices.ensemble,
        calibration=dict(calibration),
        best=choices.best,
        comparisons=comparisons(tested, experiment),
        subgroups=in_groups,
        gaps=gaps,
        epsilon=spent(choices, tested),
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
