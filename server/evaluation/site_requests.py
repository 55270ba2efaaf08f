"""Requests to the sites after the last round: local-only models, mixtures, scores, figures."""

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
from fedrad.exchange.update import Manifest, UpdateError, check_packed, unpack
from fedrad.server.federation.declared import contradiction_of_monitoring
from fedrad.server.federation.federation import Federation
from fedrad.server.federation.mailbox import Answer
from fedrad.server.federation.visit import SETTLED, Verdict, Visit
from fedrad.server.rounds.global_model import GlobalModel

from .judgement import fault_of_release
from .shared_models import SharedModels

log = logging.getLogger("fedrad.server")

FINAL_REFUSALS: tuple[Reason, ...] = (
    "request",
    "experiment",
    "trained on test patients",
    "diverged",
    "policy",
    "asked",
    "implausible",
)
"""Refusals that stay when the request is repeated: the same seed diverges again."""
ABOUT_ONE_MODEL: tuple[Reason, ...] = ("asked", "implausible", "request")
"""Refusals of one model to score, after which the site is asked for the next model as well: one
site's local-only model is no reason to leave out those of the others."""
POLICY_REFUSALS: tuple[Reason, ...] = ("policy", "approval", "hours", "limit")
"""Refusals that are decisions of the site."""


def _after_failure(answer: Answer[Reply], why: str) -> Verdict:
    """The verdict on a failure after the last round.

    A site is not asked again if its answer cannot be used or its refusal is final: it would give
    the same answer.
    """
    return Verdict(answer.status in ("ok", "invalid") or answer.reason in FINAL_REFUSALS, why)


class SiteRequests:
    """Requests to the sites of a federation about the trained model."""

    def __init__(self, federation: Federation, model: GlobalModel) -> None:
        self.federation = federation
        self.model = model
        self.schedule = federation.experiment.schedule
        self._failed: dict[str, str] = {}
        """Site -> status of its last answer to a request for scores, if that failed."""

    def baselines(
        self,
        settled: Collection[str],
        done: Callable[[str, Missing | None], None],
        shared_models: SharedModels,
    ) -> None:
        """Let each site train its local-only model.

        Parameters
        ----------
        settled
            Sites that have answered already; they are not asked.
        done
            Called with the site and the reason why it trained no model, None if it did.
        shared_models
            Store of the models that sites share. Other models stay at their site.
        """
        request = BaselineRequest(travel=self.federation.experiment.evaluation.travel)
        content = to_record(request)
        expected, _ = self.model.packed(self.schedule.last_stage, self.schedule.rounds)

        def take(site: str, answer: Answer[BaselineReply]) -> Verdict:
            reply = answer.reply
            if reply is None:
                self._record(site, local_model=answer.failure)
                log.warning("  %s: no local model: %s", site, answer.failure)
                return _after_failure(answer, answer.failure)
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
            if request.travel and reply.manifest is not None and answer.packed is not None:
                try:
                    check_packed(reply.manifest, answer.packed, expected)
                    unpack(reply.manifest, answer.packed)  # its values are finite
                    shared_models.save(site, reply.manifest, answer.packed)
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
        """Site -> monitoring of the global model mixed with the base, one entry per alpha."""
        figures = {}

        def take(site: str, answer: Answer[ValidationReply]) -> Verdict:
            reply, why = answer.reply, answer.failure
            if reply is not None:
                why = self._fault_of_mixtures(site, reply, len(alphas))
            if reply is None or why:
                self._record(site, ensemble=why)
                log.warning("  %s: no figures for the ensemble: %s", site, why)
                return _after_failure(answer, why)
            figures[site] = reply.figures
            return SETTLED

        content = self._with_model(
            lambda manifest: ValidationRequest(manifest=manifest, alphas=alphas)
        )
        Visit(self.federation, VALIDATION, lambda _: content, take, settled=set()).run()
        return figures

    def _fault_of_mixtures(self, site: str, reply: ValidationReply, mixtures: int) -> str:
        """Why figures of mixtures cannot be used; empty if they can."""
        if len(reply.figures) != mixtures:
            return "another number of figures than asked for"
        readiness, experiment = self.federation.sites[site], self.federation.experiment
        faults = (contradiction_of_monitoring(f, readiness, experiment) for f in reply.figures)
        return next(filter(None, faults), "")

    def score(
        self,
        part: Literal["validation", "test"],
        model: ModelName,
        tensors: tuple[Manifest, Packed] | None,
        only: Collection[str] | None = None,
    ) -> None:
        """Let sites score a model on a part of their patients. The scores stay at the sites.

        A site that failed for one model is not asked for the next, because each would cost a
        deadline. It is asked again if it was disconnected and has come back, or if its refusal was
        about the one model.

        Parameters
        ----------
        part
            Patients to score.
        model
            Name of the model.
        tensors
            Manifest and values of the model; None if the sites have it.
        only
            Sites to ask; None for all.
        """
        manifest, packed = tensors or (None, None)
        content = to_record(ScoreRequest(part=part, model=model, manifest=manifest), packed)
        sites = self.federation.sites.keys()

        def take(site: str, answer: Answer[ScoreReply]) -> Verdict:
            self._failed.pop(site, None)
            if answer.reply is not None:
                return SETTLED
            if answer.reason not in ABOUT_ONE_MODEL:
                self._failed[site] = answer.status
            self._record(site, scores=f"{part}, {model}: {answer.failure}")
            log.warning("  %s: %s not scored (%s): %s", site, model, part, answer.failure)
            return _after_failure(answer, answer.failure)

        self.federation.update_nodes()
        asked = sites if only is None else sites & set(only)
        refused = {s for s, status in self._failed.items() if status in ("refused", "invalid")}
        Visit(
            self.federation,
            SCORE,
            lambda _: content,
            take,
            settled=(sites - asked) | refused | self._disconnected(),
        ).run()

    def release(
        self,
        part: Literal["validation", "test"],
        models: list[ModelName],
        operating: dict[ModelName, dict[str, OperatingPoint]],
        releases: dict[str, Release],
        missing: dict[str, Missing],
        on_release: Callable[[], None],
    ) -> None:
        """Collect the figures that sites release of the models they scored.

        Parameters
        ----------
        part
            Patients that were scored.
        models
            Models whose figures are asked for.
        operating
            Model -> outcome -> common threshold and calibration.
        releases
            Site -> release; extended here. Sites that are in it are not asked.
        missing
            Site -> why it released nothing; updated here.
        on_release
            Called after each new release.
        """

        def take(site: str, answer: Answer[Release]) -> Verdict:
            reply, why = answer.reply, answer.failure
            if reply is not None:
                readiness = self.federation.sites.get(site)
                experiment = self.federation.experiment
                why = fault_of_release(reply, site, readiness, part, models, experiment)
            if reply is None or why:
                missing[site] = "timeout" if answer.status == "timeout" else "error"
                if answer.reason in POLICY_REFUSALS:
                    missing[site] = "declined"
                self._record(site, release=f"{part}: {why}")
                log.warning("  %s: no %s figures: %s", site, part, why)
                return _after_failure(answer, why)
            releases[site] = reply
            missing.pop(site, None)
            on_release()
            return SETTLED

        content = to_record(ReleaseRequest(part=part, models=models, operating=operating))
        disconnected = self._disconnected() - releases.keys()
        missing |= dict.fromkeys(disconnected, "timeout")
        Visit(
            self.federation,
            RELEASE,
            lambda _: content,
            take,
            settled={*releases, *disconnected},
        ).run()

    def _disconnected(self) -> set[str]:
        """Sites that failed at the last request and are not connected."""
        return self._failed.keys() - self.federation.connected.keys()

    def _with_model(self, request: Callable[[Manifest], Request]) -> RecordDict:
        manifest, packed = self.model.packed(self.schedule.last_stage, self.schedule.rounds)
        return to_record(request(manifest), packed)

    def _record(self, site: str, **texts: str) -> None:
        self.federation.records.add(self.schedule.rounds, site, {}, **texts)
