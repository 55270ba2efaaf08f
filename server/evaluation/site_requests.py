"""What sites are asked after the last round: their own models, mixtures, the released figures."""

import logging
from collections.abc import Callable, Collection
from typing import Literal

from flwr.app import RecordDict

from fedrad.exchange.encoding import Packed
from fedrad.exchange.figures import Missing, ModelName, OperatingPoint, Release
from fedrad.exchange.messages import (
    BASELINE,
    RELEASE,
    SCORE,
    VALIDATION,
    BaselineReply,
    BaselineRequest,
    Monitoring,
    ReleaseRequest,
    Reply,
    Request,
    ScoreReply,
    ScoreRequest,
    ValidationReply,
    ValidationRequest,
    to_record,
)
from fedrad.exchange.reasons import Reason
from fedrad.exchange.update import Manifest, UpdateError, check_packed
from fedrad.server.federation.federation import Federation
from fedrad.server.federation.mailbox import Answer
from fedrad.server.federation.visit import SETTLED, Verdict, Visit
from fedrad.server.results.contradictions import fault
from fedrad.server.rounds.global_model import GlobalModel

from .shared_models import Travellers

log = logging.getLogger("fedrad.server")

Answered = Callable[[], None]
FINAL: tuple[Reason, ...] = (
    "released",
    "request",
    "experiment",
    "trained on test patients",
    "diverged",
    "policy",
)
"""Refusals that another asking does not change: the same seed diverges again."""
OF_POLICY: tuple[Reason, ...] = ("policy", "approval", "hours", "limit")
"""Refusals that are the site's decision."""


def failed(answer: Answer[Reply], why: str) -> Verdict:
    """A failure after the last round. Who answered what cannot be used, or refused for a reason
    that stays, is not asked again: a site says twice what it said once."""
    return Verdict(answer.status in ("ok", "invalid") or answer.reason in FINAL, why)


class Questions:
    """Questions to the sites of a federation about its trained model."""

    def __init__(self, federation: Federation, model: GlobalModel) -> None:
        self.federation = federation
        self.model = model
        self.schedule = federation.experiment.schedule
        self._failed: dict[str, str] = {}
        """Site -> status of its last answer about scores, where that was a failure."""

    def baselines(
        self,
        settled: Collection[str],
        done: Callable[[str, Missing | None], None],
        travellers: Travellers,
    ) -> None:
        """Have every site that has not settled train its local-only model, which stays there or
        joins the `travellers`. `done` is told of each that has, or has said why not."""
        content = to_record(BaselineRequest(travel=self.federation.experiment.evaluation.travel))
        expected, _ = self.model.packed(self.schedule.last_stage, self.schedule.rounds)

        def take(site: str, answer: Answer[BaselineReply]) -> Verdict:
            reply = answer.reply
            if reply is None:
                self._record(site, local_model=answer.failure)
                log.warning("  %s: no local model: %s", site, answer.failure)
                return failed(answer, answer.failure)
            self.federation.records.add(
                self.schedule.rounds,
                site,
                {"local_seconds": reply.seconds},
                local_model=reply.missing or "trained",
            )
            log.info(
                "  %s: local-only model %s",
                site,
                f"not trained ({reply.missing})"
                if reply.missing
                else f"trained, {reply.seconds:.1f} s",
            )
            if reply.manifest is not None and answer.packed is not None:
                try:
                    check_packed(reply.manifest, answer.packed, expected)
                    travellers.keep(site, reply.manifest, answer.packed)
                except UpdateError as error:
                    log.warning("  %s: its local-only model may not travel: %s", site, error)
            done(site, reply.missing)
            return SETTLED

        Visit(
            self.federation,
            BASELINE,
            lambda _: content,
            take,
            settled=set(settled),
            deadlines=self.schedule.rounds,
        ).run()

    def validation(self, alphas: list[float]) -> dict[str, list[dict[str, Monitoring]]]:
        """Each site's figures of the global model mixed with the base, one entry per alpha."""
        figures = {}

        def take(site: str, answer: Answer[ValidationReply]) -> Verdict:
            reply = answer.reply
            if reply is None or len(reply.figures) != len(alphas):
                why = answer.failure or "another number of figures than asked for"
                self._record(site, ensemble=why)
                log.warning("  %s: no figures for the ensemble: %s", site, why)
                return failed(answer, why)
            figures[site] = reply.figures
            return SETTLED

        content = self._about_the_model(
            lambda manifest: ValidationRequest(manifest=manifest, alphas=alphas)
        )
        Visit(self.federation, VALIDATION, lambda _: content, take, settled=set()).run()
        return figures

    def score(
        self,
        part: Literal["validation", "test"],
        model: ModelName,
        tensors: tuple[Manifest, Packed] | None,
        only: Collection[str] | None = None,
    ) -> None:
        """Have sites score a model on a part of their patients; the scores stay there.

        `tensors`: the model's, None for one that the sites have. `only`: sites to ask, else all.
        A site that failed for one model is not asked for the next, unless it was away and is back:
        each would cost a deadline.
        """
        manifest, packed = tensors or (None, None)
        content = to_record(ScoreRequest(part=part, model=model, manifest=manifest), packed)
        sites = self.federation.sites.keys()

        def take(site: str, answer: Answer[ScoreReply]) -> Verdict:
            self._failed.pop(site, None)
            if answer.reply is not None:
                return SETTLED
            self._failed[site] = answer.status
            self._record(site, scores=f"{part}, {model}: {answer.failure}")
            log.warning("  %s: %s not scored (%s): %s", site, model, part, answer.failure)
            return failed(answer, answer.failure)

        self.federation.look()
        asked = sites if only is None else sites & set(only)
        refused = {s for s, status in self._failed.items() if status in ("refused", "invalid")}
        Visit(
            self.federation,
            SCORE,
            lambda _: content,
            take,
            settled=(sites - asked) | refused | self._gone(),
        ).run()

    def release(
        self,
        part: Literal["validation", "test"],
        models: list[ModelName],
        operating: dict[ModelName, dict[str, OperatingPoint]],
        releases: dict[str, Release],
        missing: dict[str, Missing],
        answered: Answered,
    ) -> None:
        """Fill `releases` with what each site that is not among them releases of the models it
        scored on a part, and `missing` with why another does not; `answered` is called after each
        site."""

        def take(site: str, answer: Answer[Release]) -> Verdict:
            reply = answer.reply
            why = answer.failure
            if reply is not None:
                faults = [found for s in reply.scores if (found := fault(s))]
                why = "figures of another part" if reply.part != part else "; ".join(faults)
            if reply is None or why:
                missing[site] = "timeout" if answer.status == "timeout" else "error"
                if answer.reason in OF_POLICY:
                    missing[site] = "declined"
                self._record(site, release=f"{part}: {why}")
                log.warning("  %s: no %s figures: %s", site, part, why)
                return failed(answer, why)
            releases[site] = reply
            missing.pop(site, None)
            answered()
            return SETTLED

        content = to_record(ReleaseRequest(part=part, models=models, operating=operating))
        gone = self._gone() - releases.keys()
        missing |= dict.fromkeys(gone, "timeout")
        Visit(
            self.federation,
            RELEASE,
            lambda _: content,
            take,
            settled={*releases, *gone},
        ).run()

    def _gone(self) -> set[str]:
        """Sites that failed when asked last, and are away."""
        return self._failed.keys() - self.federation.here.keys()

    def _about_the_model(self, request: Callable[[Manifest], Request]) -> RecordDict:
        manifest, packed = self.model.packed(self.schedule.last_stage, self.schedule.rounds)
        return to_record(request(manifest), packed)

    def _record(self, site: str, **texts: str) -> None:
        self.federation.records.add(self.schedule.rounds, site, {}, **texts)
