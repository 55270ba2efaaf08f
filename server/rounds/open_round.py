"""One round: sends the model of a stage; checks, spools and combines the updates."""

import logging
import time
from functools import cached_property
from pathlib import Path

import torch
from flwr.app import RecordDict

from fedrad.exchange.encoding import Packed
from fedrad.exchange.messages import ROUND, RoundReply, RoundRequest, to_record
from fedrad.exchange.update import (
    Manifest,
    UpdateError,
    check_packed,
    flatten,
    unflatten,
    unpack,
    values_sha256,
)
from fedrad.server.federation.federation import Federation
from fedrad.server.federation.mailbox import Answer
from fedrad.server.federation.visit import Verdict, Visit
from fedrad.server.results.summary import Round, SiteRound

from .aggregation import norms, outliers
from .global_model import GlobalModel
from .spool import Spool
from .strategies import strategy_of

log = logging.getLogger("fedrad.server")


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
        strategy = strategy_of(self.settings)
        combined = strategy.combine(self.spool.updates, self.expected)
        state = {name: value.numpy() for name, value in self.model.network.state_dict().items()}
        values, self.model.moments = strategy.move(
            combined,
            self.broadcast.start,
            flatten(state, self.expected.names),
            self.expected,
            self.model.moments,
        )
        self.model.put(unflatten(self.expected, values))
        to_sites, from_sites = self._bytes
        result = Round(
            round=self.number + 1,
            stage=self.stage,
            seconds=time.perf_counter() - started,
            bytes_to_sites=to_sites,
            bytes_from_sites=from_sites,
            sites=dict(sorted(self.sites.items())),
        )
        self.federation.records.add(
            self.number + 1,
            "",
            {"seconds": result.seconds, "bytes_to_sites": to_sites, "bytes_from_sites": from_sites},
            stage=self.stage,
        )
        return result, self._holds

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
        return Verdict(result.why is None, result.why or "")

    def _spool(
        self,
        site: str,
        reply: RoundReply,
        manifest: Manifest,
        packed: Packed | None,
        result: SiteRound,
    ) -> SiteRound:
        try:
            if packed is None:
                raise UpdateError("the update came without its tensors")
            self._bytes[1] += packed.nbytes
            check_packed(manifest, packed, self.expected)
            if reply.images < 1 or reply.patients < 1:
                raise UpdateError("trained on no image")
            encoded = self.broadcast.difference is not None
            values = unpack(manifest, packed, self.broadcast.start if encoded else None)
        except UpdateError as error:
            return _rejected(result, str(error))
        weights = {"patients": reply.patients, "images": reply.images, "equal": 1}
        self.spool.add(site, values, float(weights[self.settings.weighting]), result)
        return result

    def _lacking(self) -> str:
        """Reject outliers; say what is missing to close the round, empty if nothing is."""
        lengths = norms(self.spool.updates, self.broadcast.start, self.expected)
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
        values = {"seconds": result.seconds, "loss": result.loss, "units": result.units}
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
