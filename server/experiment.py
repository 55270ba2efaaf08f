"""Runs one experiment, from the first request to the sites to the report."""

import importlib.metadata
import logging
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import torch
from flwr.serverapp import Grid

from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.lineage import Lineage, read_lineage
from fedrad.exchange.messages import Readiness
from fedrad.exchange.model_names import home_of, local_of
from fedrad.exchange.required_release import release_fault
from fedrad.models.weight_files import file_sha256
from fedrad.models.weights import StartingNetwork
from fedrad.system.files import UnreadableFileError, write_whole
from fedrad.system.folders import make_folder
from fedrad.system.release import release

from .evaluation.evaluation import FinalEvaluation, epsilon, released_figures
from .evaluation.site_requests import SiteRequests
from .federation.failure import ExperimentFailed, Stopped
from .federation.federation import Federation
from .federation.records import Records
from .report.report import write_report
from .results.choices import Choices
from .results.comparisons import comparisons, subgroups
from .results.overall import cells, overall
from .results.summary import Provenance, SiteEntry, Summary
from .rounds.best_model import BestModelFile
from .rounds.checkpoint import Checkpoint, Progress
from .rounds.global_model import GlobalModel
from .rounds.model_file import write_model
from .rounds.open_round import OpenRound

log = logging.getLogger("fedrad.server")


def run_experiment(
    grid: Grid,
    text: str,
    folder: Path,
    *,
    wait_seconds: float | None = None,
    resume: bool = False,
    members: Path | None = None,
) -> Summary:
    """Run an experiment over the sites of a grid, and write its results into a folder.

    Parameters
    ----------
    grid
        Flower's grid of connected nodes.
    text
        Text of the experiment file.
    folder
        Folder for the results.
    wait_seconds
        How long to wait for sites, at the start and when the quorum is lost. None: the patience of
        the experiment.
    resume
        Continue from the checkpoint in the folder, which must be of the same text.
    members
        File that gives the site of each node. Without it a site has the name that it gives.

    Returns
    -------
    Summary
        The summary that was written.

    Raises
    ------
    ExperimentFailed
        If the experiment cannot start, before anything is written; or if it fails later, after
        summary and report of the results so far were written.
    WeightsError
        If the base weights cannot be used, before anything is written.
    Stopped
        If the coordinator asked the run to stop.
    """
    experiment = parse_experiment(text)
    if (fault := release_fault(experiment.federation.release)) is not None:
        raise ExperimentFailed(fault)
    base = experiment.task.load_start(experiment)
    lineage = read_lineage(base.metadata)
    checkpoint = Checkpoint(folder / "checkpoint")
    file = folder / "experiment.toml"
    if file.exists() and not resume:
        raise ExperimentFailed(
            f"{folder}: holds an experiment already; give another folder, or `fedrad resume` it"
        )
    if resume and not (file.is_file() and file.read_text(encoding="utf-8") == text):
        raise ExperimentFailed(f"{folder}: holds no experiment of this text to go on with")
    make_folder(folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(checkpoint.lock())
        except BlockingIOError:
            raise ExperimentFailed(f"{folder}: another run is at work on this experiment") from None
        progress = checkpoint.load() or Progress(experiment=experiment.identity, started=_now())
        if progress.status == "completed":
            raise ExperimentFailed(f"{folder}: this experiment is completed")
        write_whole(file, text)
        records = stack.enter_context(closing(Records(folder / "records.sqlite")))
        patience = experiment.federation.patience_hours * 3600
        federation = Federation(
            grid,
            experiment,
            base.digest,
            records,
            patience_seconds=patience if wait_seconds is None else wait_seconds,
            stop_file=checkpoint.stop_file,
            members=members,
        )
        run = _Run(federation, GlobalModel(experiment, base), checkpoint, progress, folder)
        try:
            run.run()
        except ExperimentFailed as failure:
            progress.why = str(failure)
            raise
        except OSError as error:
            progress.why = (
                f"the folder cannot be written ({error.strerror}): make room, then `fedrad resume`"
            )
            raise ExperimentFailed(f"{folder}: {progress.why}") from error
        except UnreadableFileError as error:
            progress.why = str(error)
            raise ExperimentFailed(progress.why) from error
        except (KeyboardInterrupt, Stopped):
            progress.status, progress.why = "stopped", "stopped by the coordinator"
            raise
        finally:
            try:
                checkpoint.note_end(progress)
                summary = _write_results(run, base, lineage, folder)
            except OSError as error:
                log.error("%s: no summary can be written (%s)", folder, error.strerror)
                if progress.status == "completed":
                    raise
    return summary


class _Run:
    """One run of an experiment, from the start or from the checkpoint of an earlier run."""

    def __init__(
        self,
        federation: Federation,
        model: GlobalModel,
        checkpoint: Checkpoint,
        progress: Progress,
        folder: Path,
    ) -> None:
        self.federation = federation
        self.model = model
        self.checkpoint = checkpoint
        self.progress = progress
        self.folder = folder
        self.experiment = federation.experiment
        self.best = BestModelFile(checkpoint.folder)

    def run(self) -> None:
        """Wait for the sites, train, and evaluate. Steps of an earlier run are not repeated."""
        progress, federation = self.progress, self.federation
        progress.status, progress.why = "failed", Progress.model_fields["why"].default
        log.info("Evaluation plan %s", self.experiment.evaluation_sha256[:12])
        if progress.rounds:
            log.info("Going on after round %d", len(progress.rounds))
        self.checkpoint.restore(progress, self.model)
        held_out = self.experiment.evaluation.held_out
        federation.gather({*self.experiment.federation.sites, *held_out, *progress.sites})
        federation.sites = progress.sites | federation.sites
        self._train()
        if self.experiment.task.tests_patients:
            self._evaluate()
        progress.status = "completed"
        self._save()

    def _evaluate(self) -> None:
        progress, federation = self.progress, self.federation
        evaluation = FinalEvaluation(
            SiteRequests(federation, self.model),
            self.best,
            progress,
            self.checkpoint.folder,
            self._save,
        )
        if self.experiment.evaluation.local_baseline:
            evaluation.train_alone()
        evaluation.choose()
        evaluation.measure()

    def _train(self) -> None:
        schedule, progress = self.federation.schedule, self.progress
        current = set(progress.current) if progress.rounds else set(self.federation.sites)
        for number in range(len(progress.rounds), schedule.rounds):
            log.info(
                "Round %d of %d, stage %s", number + 1, schedule.rounds, schedule.stage(number)
            )
            opened = OpenRound(
                self.federation, self.model, number, self.checkpoint.folder / "spool", current
            )
            result, current = opened.run()
            self.best.consider(opened, result)
            progress.rounds.append(result)
            progress.current = sorted(current)
            self._save(self.model)
            opened.spool.clear()

    def _save(self, model: GlobalModel | None = None) -> None:
        self.progress.sites = self.federation.sites
        self.checkpoint.save(self.progress, model)


def _write_results(run: _Run, base: StartingNetwork, lineage: Lineage, folder: Path) -> Summary:
    federation, results = run.federation, run.progress
    experiment, sites = federation.experiment, sorted(federation.sites)
    figures, choices = released_figures(results), results.choices or Choices()
    calibration = choices.calibration.get("global", {})
    models = ["base", *map(local_of, sites), "global"]
    models += ["best"] if "best" in choices.thresholds else []
    if not experiment.task.tests_patients:
        models = []
    held_out = set(experiment.evaluation.held_out)
    inside = figures.for_sites(set(sites) - held_out)
    outside = figures.for_sites(held_out)
    shared = [model for model in models if home_of(model) is None]
    subgroup_figures, gaps = subgroups(inside, experiment)
    model_file = folder / "model.safetensors"
    if results.status == "completed":
        write_model(model_file, run.model, results, lineage)
    summary = Summary(
        experiment=experiment.model_dump(mode="json"),
        evaluation_sha256=experiment.evaluation_sha256,
        status=results.status,  # type: ignore[arg-type]
        why=None if results.status == "completed" else results.why,
        models=models,
        sites=sites,
        cells=cells(figures, models, experiment),
        overall=overall(inside, models, experiment),
        held_out=overall(outside, shared, experiment) if outside.releases else [],
        rounds=results.rounds,
        provenance=Provenance(
            fedrad=importlib.metadata.version("fedrad"),
            release=release(),
            flwr=importlib.metadata.version("flwr"),
            torch=torch.__version__,
            base_sha256=base.digest,
            base_description=base.description,
            model_sha256=file_sha256(model_file) if model_file.is_file() else None,
            started=results.started,
            finished=_now(),
        ),
        site_entries={site: _entry(federation.sites[site]) for site in sites},
        absent=federation.absent,
        ensemble=results.ensemble,
        calibration=calibration,
        best=results.best,
        comparisons=comparisons(inside, experiment),
        subgroups=subgroup_figures,
        gaps=gaps,
        epsilon=epsilon(results),
    )
    summary.write(folder)
    write_report(folder)
    return summary


def _entry(readiness: Readiness) -> SiteEntry:
    return SiteEntry(
        **readiness.model_dump(
            include={
                "trains",
                "does_not_train_because",
                "device",
                "threads",
                "fedrad",
                "release",
                "torch",
                "set_aside",
                "left_out",
            }
        ),
        units={
            part: {outcome: (c.positives, c.negatives) for outcome, c in of_part.items()}
            for part, of_part in readiness.units.items()
        },
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
