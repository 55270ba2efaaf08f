"""The coordinator's view of the sites: who is there, one round with them, their final figures."""

import copy
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from flwr.app import RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedrad.exchange.experiment import Experiment
from fedrad.exchange.figures import Missing, ModelName, Operating, Release
from fedrad.exchange.messages import (
    BASELINE,
    READY,
    RELEASE,
    ROUND,
    SCORE,
    VALIDATION,
    BaselineReply,
    BaselineRequest,
    Monitoring,
    Readiness,
    ReadyRequest,
    ReleaseRequest,
    RoundReply,
    RoundRequest,
    ScoreReply,
    ScoreRequest,
    ValidationReply,
    ValidationRequest,
    to_record,
)
from fedrad.exchange.update import Manifest, UpdateError, check, pack, unpack
from fedrad.exchange.wire import Wire
from fedrad.models.network import stage_tensors
from fedrad.models.settings import Stage
from fedrad.models.weights import Base

from .aggregation import Spooled, average
from .cells import fault
from .records import Records
from .sites import Answer, ask
from .summary import Round, SiteRound

log = logging.getLogger("fedrad.server")

R = TypeVar("R", bound=Wire)
LOOK_AGAIN_SECONDS = 3.0


class ExperimentFailed(Exception):
    """The experiment cannot go on; the text says why and what to do."""


class Federation:
    """The sites of one experiment and the model they train together.

    `network` is the global model; `base` stays as it was. Nothing here knows a site's data; what
    comes in is checked before it counts.
    """

    def __init__(
        self, grid: Grid, experiment: Experiment, base: Base, records: Records, folder: Path
    ) -> None:
        self.grid = grid
        self.experiment = experiment
        self.schedule = experiment.schedule
        self.base = base
        self.network = copy.deepcopy(base.network)
        self.records = records
        self.spool = folder / "checkpoint" / "spool"
        self.nodes: dict[int, str] = {}
        self.sites: dict[str, Readiness] = {}
        self.absent: dict[str, str] = {}
        self.untrained: dict[str, Missing] = {}
        """Sites without a local-only model, with the reason."""

    @property
    def _deadline(self) -> float:
        return self.experiment.federation.deadline_minutes * 60

    def meet(self, wait_seconds: float) -> None:
        """Ask every connected node whether it can take part, until those the experiment names
        (else a quorum) can.

        Looks for new nodes and asks those that refused again for `wait_seconds`. Raises
        ExperimentFailed where no quorum of training sites came together, saying who lacks what.
        """
        end = time.monotonic() + wait_seconds
        while True:
            self._ask_new_nodes()
            wanted = set(self.experiment.federation.sites)
            if wanted <= self.sites.keys() and self._quorum():
                break
            if time.monotonic() >= end:
                break
            time.sleep(LOOK_AGAIN_SECONDS)
        for site in sorted(wanted - self.sites.keys()):
            self.absent[site] = "did not come"
        if not self._quorum():
            training = sorted(s for s, r in self.sites.items() if r.trains)
            reasons = "".join(f"\n  {name}: {why}" for name, why in sorted(self.absent.items()))
            raise ExperimentFailed(
                f"no quorum: {self.experiment.federation.quorum} training sites are needed, "
                f"{len(training)} can ({', '.join(training) or 'none'}){reasons}"
            )

    def _quorum(self) -> bool:
        training = sum(readiness.trains for readiness in self.sites.values())
        return training >= self.experiment.federation.quorum

    def _ask_new_nodes(self) -> None:
        new = {n: f"node {n}" for n in self.grid.get_node_ids() if n not in self.nodes}
        if not new:
            return
        content = to_record(ReadyRequest())
        for answer in ask(
            self.grid, new, READY, content, Readiness, deadline_seconds=self._deadline
        ):
            if answer.reply is None:
                self._refuse(new[answer.node], answer.failure)
                continue
            site = answer.reply.site
            if answer.reply.base_sha256 != self.base.digest:
                self._refuse(site, "its base network differs from the coordinator's")
            elif site in self.sites:
                raise ExperimentFailed(
                    f"two nodes call themselves {site!r}: give each site its own name"
                )
            else:
                self.nodes[answer.node] = site
                self.sites[site] = answer.reply
                self.absent.pop(new[answer.node], None)
                self.absent.pop(site, None)
                self.records.add(0, site, {"set_aside": answer.reply.set_aside}, status="ready")
                log.info("%s is ready (%s)", site, _how(answer.reply))

    def _refuse(self, name: str, why: str) -> None:
        if self.absent.get(name) != why:
            self.absent[name] = why
            self.records.add(0, name, status=f"absent: {why}")
            log.warning("%s does not take part: %s", name, why)

    def round(self, number: int) -> Round:
        """Run round `number` (from 0): send the stage, check and spool what comes back, average.

        Raises ExperimentFailed where fewer sites than the quorum sent a sound update; the global
        model is then as before the round.
        """
        started = time.perf_counter()
        stage = self.schedule.stage(number)
        manifest, flat = self._pack(stage, number)
        content = to_record(RoundRequest(round=number, manifest=manifest), flat)
        updates: dict[str, Spooled] = {}
        sites: dict[str, SiteRound] = {}
        sent_back = 0
        self.spool.mkdir(parents=True, exist_ok=True)
        for answer in self._ask(ROUND, content, RoundReply):
            site = self.nodes[answer.node]
            if answer.packed is not None:
                sent_back += answer.packed.nbytes
            sites[site] = self._receive(answer, manifest, site, updates)
            self._note(number, site, sites[site])
        if len(updates) < self.experiment.federation.quorum:
            failures = "; ".join(f"{s}: {r.why}" for s, r in sorted(sites.items()) if r.why)
            raise ExperimentFailed(
                f"round {number + 1}: {len(updates)} sound updates, the quorum is "
                f"{self.experiment.federation.quorum} ({failures})"
            )
        averaged = average(updates, manifest)
        self.network.load_state_dict(
            {name: torch.from_numpy(value) for name, value in averaged.items()}, strict=False
        )
        for update in updates.values():
            update.path.unlink()
        result = Round(
            round=number + 1,
            stage=stage,
            seconds=time.perf_counter() - started,
            bytes_to_sites=flat.nbytes * len(self.nodes),
            bytes_from_sites=sent_back,
            sites=dict(sorted(sites.items())),
        )
        self.records.add(
            number + 1, "",
            {"seconds": result.seconds, "bytes_to_sites": result.bytes_to_sites,
             "bytes_from_sites": result.bytes_from_sites}, stage=stage,
        )  # fmt: skip
        return result

    def _receive(
        self,
        answer: Answer[RoundReply],
        expected: Manifest,
        site: str,
        updates: dict[str, Spooled],
    ) -> SiteRound:
        """Check one answer; spool its update if there is a sound one."""
        reply = answer.reply
        if reply is None:
            return SiteRound(status=answer.status, why=answer.failure)
        result = SiteRound(
            status="ok",
            seconds=reply.seconds,
            units=reply.units,
            loss=reply.loss,
            auroc={outcome: m.auroc for outcome, m in reply.monitoring.items()},
            missing={outcome: m.missing for outcome, m in reply.monitoring.items() if m.missing},
        )
        if reply.manifest is None:
            return result.model_copy(update={"status": "evaluated"})
        try:
            if answer.packed is None:
                raise UpdateError("the update came without its tensors")
            check(reply.manifest, answer.packed, expected)
            if reply.units < 1:
                raise UpdateError("trained on no unit")
        except UpdateError as error:
            why = f"update rejected: {error}"
            return result.model_copy(update={"status": "invalid", "why": why})
        path = self.spool / f"{site}.npy"
        np.save(path, answer.packed)
        equal = self.experiment.federation.weighting == "equal"
        updates[site] = Spooled(path, 1.0 if equal else float(reply.units))
        return result

    def _note(self, number: int, site: str, result: SiteRound) -> None:
        values = {"seconds": result.seconds, "loss": result.loss, "units": result.units}
        aurocs = {f"validation_auroc/{k}": v for k, v in result.auroc.items()}
        self.records.add(number + 1, site, values | aurocs, status=result.why or result.status)
        if result.why:
            log.warning("  %s: %s", site, result.why)
        else:
            shown = ", ".join(
                f"{v:.3f}" if v is not None else f"none ({result.missing.get(k)})"
                for k, v in result.auroc.items()
            )
            trained = f"loss {result.loss:.3f}, " if result.loss is not None else ""
            log.info(
                "  %s: %svalidation AUROC %s, %.1f s", site, trained, shown, result.seconds or 0
            )

    def baselines(self) -> None:
        """Have every site train its local-only model; it stays there unless it may travel."""
        request = BaselineRequest(travel=self.experiment.evaluation.travel)
        expected, _ = self._pack(self.schedule.last_stage, self.schedule.rounds)
        for answer in self._ask(BASELINE, to_record(request), BaselineReply):
            site = self.nodes[answer.node]
            if answer.reply is None:
                self.untrained[site] = "error"
                self.records.add(self.schedule.rounds, site, local_model=answer.failure)
                log.warning("  %s: no local model: %s", site, answer.failure)
                continue
            reply = answer.reply
            if reply.missing:
                self.untrained[site] = reply.missing
            elif reply.manifest is not None and answer.packed is not None:
                self._keep_travelling(site, reply.manifest, answer.packed, expected)
            self.records.add(
                self.schedule.rounds, site, {"local_seconds": reply.seconds},
                local_model=reply.missing or "trained",
            )  # fmt: skip
            log.info(
                "  %s: local-only model %s", site,
                f"not trained ({reply.missing})" if reply.missing
                else f"trained, {reply.seconds:.1f} s",
            )  # fmt: skip

    def _keep_travelling(
        self, site: str, manifest: Manifest, flat: NDArray[np.float32], expected: Manifest
    ) -> None:
        try:
            check(manifest, flat, expected)
        except UpdateError as error:
            log.warning("  %s: its local-only model is rejected: %s", site, error)
            return
        self.spool.mkdir(parents=True, exist_ok=True)
        np.save(self.spool / f"local-{site}.npy", flat)

    def travelling(self, site: str) -> dict[str, torch.Tensor] | None:
        """The local-only model that a site sent to be scored elsewhere; None where it sent none."""
        file = self.spool / f"local-{site}.npy"
        if not file.is_file():
            return None
        manifest, _ = self._pack(self.schedule.last_stage, self.schedule.rounds)
        received = {k: torch.tensor(v) for k, v in unpack(manifest, np.load(file)).items()}
        return {**self.base.network.state_dict(), **received}

    def validation(self, alphas: list[float]) -> dict[str, list[dict[str, Monitoring]]]:
        """Each site's figures of the global model mixed with the base, one entry per alpha."""
        manifest, flat = self._pack(self.schedule.last_stage, self.schedule.rounds)
        request = ValidationRequest(manifest=manifest, alphas=alphas)
        figures = {}
        for answer in self._ask(VALIDATION, to_record(request, flat), ValidationReply):
            site = self.nodes[answer.node]
            if answer.reply is None or len(answer.reply.figures) != len(alphas):
                why = answer.failure or "another number of figures than asked for"
                self.records.add(self.schedule.rounds, site, ensemble=why)
                log.warning("  %s: no figures for the ensemble: %s", site, why)
            else:
                figures[site] = answer.reply.figures
        return figures

    def score(
        self,
        part: Literal["validation", "test"],
        model: ModelName,
        state: Mapping[str, torch.Tensor] | None,
        only: set[str] | None = None,
    ) -> None:
        """Have sites score a model on a part of their patients; the scores stay there.

        `state`: the model's, None for one that the sites have. `only`: sites to ask, else all.
        """
        manifest, flat = None, None
        if state is not None:
            stage = self.schedule.last_stage
            manifest, flat = pack(
                {name: value.numpy() for name, value in state.items()},
                stage_tensors(self.network, stage, self.experiment.recipe),
                round_=self.schedule.rounds, stage=stage, base_sha256=self.base.digest,
            )  # fmt: skip
        request = ScoreRequest(part=part, model=model, manifest=manifest)
        for answer in self._ask(SCORE, to_record(request, flat), ScoreReply, only):
            site = self.nodes[answer.node]
            if answer.reply is None:
                self.records.add(
                    self.schedule.rounds, site, scores=f"{part}, {model}: {answer.failure}"
                )
                log.warning("  %s: %s not scored on %s: %s", site, model, part, answer.failure)

    def release(
        self,
        part: Literal["validation", "test"],
        models: list[ModelName],
        operating: dict[ModelName, dict[str, Operating]],
    ) -> tuple[dict[str, Release], dict[str, Missing]]:
        """What each site releases of the models it scored on a part, and who released nothing."""
        request = ReleaseRequest(part=part, models=models, operating=operating)
        releases: dict[str, Release] = {}
        missing: dict[str, Missing] = {}
        for answer in self._ask(RELEASE, to_record(request), Release):
            site = self.nodes[answer.node]
            faults = [f for s in answer.reply.scores if (f := fault(s))] if answer.reply else []
            if answer.reply is None:
                missing[site] = "timeout" if answer.status == "timeout" else "error"
                self.records.add(self.schedule.rounds, site, release=f"{part}: {answer.failure}")
                log.warning("  %s: no %s figures: %s", site, part, answer.failure)
            elif faults or answer.reply.part != part:
                missing[site] = "error"
                why = faults[0] if faults else "figures of another part"
                self.records.add(self.schedule.rounds, site, release=f"{part}: rejected: {why}")
                log.warning("  %s: %s figures rejected: %s", site, part, why)
            else:
                releases[site] = answer.reply
        return releases, missing

    def _pack(self, stage: Stage, number: int) -> tuple[Manifest, NDArray[np.float32]]:
        return pack(
            {name: value.numpy() for name, value in self.network.state_dict().items()},
            stage_tensors(self.network, stage, self.experiment.recipe),
            round_=number, stage=stage, base_sha256=self.base.digest,
        )  # fmt: skip

    def _ask(
        self, message_type: str, content: RecordDict, kind: type[R], only: set[str] | None = None
    ) -> Iterator[Answer[R]]:
        """Ask all sites, or some; one whose node is gone answers as lost."""
        online = set(self.grid.get_node_ids())
        asked = {n: site for n, site in self.nodes.items() if only is None or site in only}
        here = {node: site for node, site in asked.items() if node in online}
        for node in asked.keys() - here.keys():
            yield Answer(node, "lost", failure="the site's node is not connected")
        yield from ask(
            self.grid, here, message_type, content, kind, deadline_seconds=self._deadline
        )


def _how(readiness: Readiness) -> str:
    trains = "trains" if readiness.trains else (
        f"only evaluates: {readiness.does_not_train_because}"
    )  # fmt: skip
    aside = f", {readiness.set_aside} files set aside" if readiness.set_aside else ""
    return f"{trains}, {readiness.device}, {readiness.threads} threads{aside}"
