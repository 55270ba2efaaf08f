"""One round: sends the model of a stage; checks, spools and combines the updates."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from flwr.app import RecordDict

from fedrad.exchange.encoding import Packed
from fedrad.exchange.messages import ROUND, RoundReply, RoundRequest, to_record
from fedrad.exchange.reasons import Reason
from fedrad.exchange.update import (
    Manifest,
    UpdateError,
    flatten,
    unflatten,
    values_sha256,
)
from fedrad.server.federation.declared import contradiction_of_round, training_limit
from fedrad.server.federation.federation import Federation
from fedrad.server.federation.mailbox import Answer
from fedrad.server.federation.visit import Verdict, Visit
from fedrad.server.results.summary import Round, SiteRound

from .aggregation import outliers
from .global_model import GlobalModel
from .limits import checked_update, clipped
from .spool import Spool, SpooledUpdate
from .strategies import Strategy, strategy_of
from .weights import limited_weights

log = logging.getLogger("fedrad.server")

SAME_ANSWER: tuple[Reason, ...] = ("asked", "implausible")
"""Refusals of this round's model: a site that is asked again gives them again."""
ENCODING_MARGIN = 0.95
"""Share of `federation.clip` that a step may have if the model is sent as encoded differences: they
are rounded, so that the step that sites see is a little longer."""


class OpenRound:
    """Round `number` (from 0) of a federation, until it closes.

    Parameters
    ----------
    federation
        The sites.
    model
        The global model; it is changed when the round closes.
    number
        Number of the round, from 0.
    folder
        Folder of the spool.
    current
        Sites that hold the model of the last broadcast.
    """

    def __init__(
        self,
        federation: Federation,
        model: GlobalModel,
        number: int,
        folder: Path,
        current: set[str],
    ) -> None:
        self.federation = federation
        self.model = model
        self.number = number
        self.settings = federation.experiment.federation
        self.stage = federation.experiment.schedule.stage(number)
        self.broadcast = model.broadcast(self.stage, number)
        self.expected = self.broadcast.expected
        self.spool = Spool(folder, number, values_sha256(self.broadcast.start))
        self.sites = {name: update.site for name, update in self.spool.updates.items()}
        self._current = current
        self._holds: set[str] = set(self.sites)
        self._bytes = [0, 0]
        self._visit = Visit(
            federation,
            ROUND,
            self._request,
            self._take,
            settled=set(self.sites),
            lacking=self._lacking,
        )
        for site in self.sites:
            log.info("  %s: its update was spooled before", site)

    def run(self) -> tuple[Round, set[str]]:
        """Ask the sites, close the round, and update the global model.

        Returns
        -------
        tuple[Round, set[str]]
            The round, and the sites that hold the model it sent.

        Raises
        ------
        ExperimentFailed
            If the patience ended without a quorum. The global model is then unchanged.
        """
        started = time.perf_counter()
        self.federation.records.add(self.number + 1, "", {}, began=self.stage)
        self._visit.run()
        norm, was_clipped = self._move()
        to_sites, from_sites = self._bytes
        result = Round(
            round=self.number + 1,
            stage=self.stage,
            seconds=time.perf_counter() - started,
            bytes_to_sites=to_sites,
            bytes_from_sites=from_sites,
            sites=dict(sorted(self.sites.items())),
            norm=norm,
            clipped=was_clipped,
        )
        self.federation.records.add(
            self.number + 1,
            "",
            {
                "seconds": result.seconds,
                "bytes_to_sites": to_sites,
                "bytes_from_sites": from_sites,
                "norm": norm,
            },
            stage=self.stage,
        )
        return result, self._holds

    def _move(self) -> tuple[float, bool]:
        """Move the global model by the updates of the round. Returns the norm of its step, and
        whether it was scaled down to `federation.clip`, beyond which sites refuse a model."""
        strategy, start = strategy_of(self.settings), self.broadcast.start
        combined = strategy.combine(self._weighted(strategy), self.expected)
        state = {name: value.numpy() for name, value in self.model.network.state_dict().items()}
        values, self.model.moments = strategy.move(
            combined,
            start,
            flatten(state, self.expected.names),
            self.expected,
            self.model.moments,
        )
        margin = 1.0 if self.broadcast.difference is None else ENCODING_MARGIN
        values, norm, was_clipped = clipped(
            values, start, self.expected, margin * self.settings.clip
        )
        if was_clipped:
            log.warning(
                "  the step of the global model (norm %.3g) is scaled down to federation.clip", norm
            )
        self.model.put(unflatten(self.expected, values))
        return norm, was_clipped

    def _weighted(self, strategy: Strategy) -> Mapping[str, SpooledUpdate]:
        """The updates with the weights that count; shares and limits are recorded."""
        updates = self.spool.updates
        if not strategy.weighted:
            return updates
        weights = limited_weights(
            {site: update.weight for site, update in updates.items()},
            {site: self._declared(site) for site in updates},
            self.settings.largest_share,
        )
        for site, w in weights.items():
            recorded = {"share": w.share, "limited_by": w.limited_by}
            self.sites[site] = self.sites[site].model_copy(update=recorded)
            self.federation.records.add(self.number + 1, site, {"share": w.share})
            if w.limited_by:
                self.federation.records.add(self.number + 1, site, {}, weight_limited=w.limited_by)
                log.warning("  %s: weight limited (%s), share %.2f", site, w.limited_by, w.share)
        return {s: replace(update, weight=weights[s].weight) for s, update in updates.items()}

    def _declared(self, site: str) -> int | None:
        """The most that a site may weigh by what it declared at readiness."""
        if self.settings.weighting == "equal":
            return 1
        readiness = self.federation.sites.get(site)  # a spooled site may be away after a crash
        outcomes = self.federation.experiment.outcomes
        return None if readiness is None else training_limit(readiness, outcomes)

    def received(self) -> dict[str, torch.Tensor]:
        """The whole model as sites have it at the start of the round, with the tensors that the
        round does not send."""
        sent = unflatten(self.expected, self.broadcast.start)
        state = {n: v.detach().clone() for n, v in self.model.network.state_dict().items()}
        return state | {name: torch.from_numpy(value.copy()) for name, value in sent.items()}

    def _request(self, site: str) -> RecordDict:
        content, size = self._difference if site in self._current else self._full
        self._bytes[0] += size
        return content

    @cached_property
    def _full(self) -> tuple[RecordDict, int]:
        return self._content(*self.broadcast.full)

    @cached_property
    def _difference(self) -> tuple[RecordDict, int]:
        if self.broadcast.difference is None:
            return self._full
        return self._content(*self.broadcast.difference)

    def _content(self, manifest: Manifest, packed: Packed) -> tuple[RecordDict, int]:
        """A request, the same for all its sites, and its size in bytes."""
        request = RoundRequest(round=self.number, manifest=manifest)
        return to_record(request, packed), packed.nbytes + len(request.model_dump_json())

    def _take(self, site: str, answer: Answer[RoundReply]) -> Verdict:
        """Check one answer; spool its update if it is valid."""
        if answer.reason == "reference" and site in self._current:
            self._current.discard(site)
            self.federation.records.add(self.number + 1, site, status=answer.failure)
            return Verdict(False, ask_again_now=True)
        reply = answer.reply
        if reply is None:
            result = SiteRound(status=answer.status, why=answer.failure)
        elif why := contradiction_of_round(
            reply, self.federation.sites[site], self.federation.experiment
        ):
            result = SiteRound(status="invalid", why=f"answer rejected: {why}")
        else:
            self._holds.add(site)
            self._bytes[1] += len(reply.model_dump_json())
            result = SiteRound(
                status="ok" if reply.manifest else "evaluated",
                seconds=reply.seconds,
                units=reply.images,
                loss=reply.loss,
                auroc={outcome: m.auroc for outcome, m in reply.monitoring.items()},
                validation_loss={outcome: m.loss for outcome, m in reply.monitoring.items()},
                missing={o: m.missing for o, m in reply.monitoring.items() if m.missing},
                epsilon=max((m.epsilon or 0 for m in reply.monitoring.values()), default=0) or None,
            )
            if reply.manifest is not None:
                result = self._spool(site, reply, reply.manifest, answer.packed, result)
        self.sites[site] = result
        self._record(site, result)
        return Verdict(result.why is None or answer.reason in SAME_ANSWER, result.why or "")

    def _spool(
        self,
        site: str,
        reply: RoundReply,
        manifest: Manifest,
        packed: Packed | None,
        result: SiteRound,
    ) -> SiteRound:
        self._bytes[1] += 0 if packed is None else packed.nbytes
        try:
            if reply.images < 1 or reply.patients < 1:
                raise UpdateError("trained on no image")
            update = checked_update(
                manifest, packed, self.expected, self.broadcast.start, self.settings.clip
            )
        except UpdateError as error:
            return _rejected(result, str(error))
        result = result.model_copy(update={"norm": update.norm, "clipped": update.limited})
        weights = {"patients": reply.patients, "images": reply.images, "equal": 1}
        self.spool.add(site, update.values, float(weights[self.settings.weighting]), result)
        return result

    def _lacking(self) -> str:
        """Reject outliers; say what is missing to close the round, empty if nothing is."""
        lengths = {site: update.site.norm or 0.0 for site, update in self.spool.updates.items()}
        for site, times in outliers(lengths, self.settings.outlier_factor).items():
            self.spool.drop(site)
            why = f"its norm is {times:.3g} times the sites' median"
            self.sites[site] = result = _rejected(self.sites[site], why)
            self._visit.reject(site, result.why or why)
            self._record(site, result)
        if len(self.spool.updates) >= self.settings.quorum:
            return ""
        return (
            f"round {self.number + 1}: {len(self.spool.updates)} sound updates, the quorum is "
            f"{self.settings.quorum}"
        )

    def _record(self, site: str, result: SiteRound) -> None:
        values = {
            "seconds": result.seconds,
            "loss": result.loss,
            "units": result.units,
            "norm": result.norm,
        }
        aurocs = {f"validation_auroc/{k}": v for k, v in result.auroc.items()}
        losses = {f"validation_loss/{k}": v for k, v in result.validation_loss.items()}
        self.federation.records.add(
            self.number + 1, site, values | aurocs | losses, status=result.why or result.status
        )
        if result.why:
            log.warning("  %s: %s", site, result.why)
            return
        figure = self.federation.experiment.task.monitored
        shown = ", ".join(
            f"{v:.3f}" if v is not None else f"none ({result.missing.get(k)})"
            for k, v in result.monitored(figure).items()
        )
        trained = f"loss {result.loss:.3f}, " if result.loss is not None else ""
        if result.clipped:
            log.warning("  %s: its update (norm %.3g) is scaled down", site, result.norm or 0)
        log.info(
            "  %s: %svalidation %s %s, %.1f s",
            site,
            trained,
            figure.name,
            shown,
            result.seconds or 0,
        )


def _rejected(result: SiteRound, why: str) -> SiteRound:
    return result.model_copy(update={"status": "invalid", "why": f"update rejected: {why}"})
