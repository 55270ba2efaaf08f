"""What sites are asked after the last round: their own models, mixtures, the released figures."""

import logging
from collections.abc import Callable, Collection

from flwr.app import RecordDict

from fedrad.exchange.messages import (
    BASELINE,
    SCORES,
    VALIDATION,
    BaselineReply,
    BaselineRequest,
    Missing,
    ModelName,
    Monitoring,
    ScoreReply,
    ScoreRequest,
    Scores,
    ValidationReply,
    ValidationRequest,
    to_record,
)
from fedrad.exchange.wire import Wire

from .federation import Federation
from .model import GlobalModel
from .sites import Answer
from .statistics import pair_auroc
from .visit import SETTLED, Verdict, Visit

log = logging.getLogger("fedrad.server")

Answered = Callable[[], None]


class Questions:
    """Questions to the sites of a federation about its trained model."""

    def __init__(self, federation: Federation, model: GlobalModel) -> None:
        self.federation = federation
        self.model = model
        self.schedule = federation.experiment.schedule

    def baselines(self, settled: Collection[str], done: Callable[[str], None]) -> None:
        """Have every site that has not settled train its local-only model, which stays there.
        `done` is told of each that has, or has said why not."""
        content = to_record(BaselineRequest())

        def take(site: str, answer: Answer) -> Verdict:
            reply: BaselineReply | None = answer.reply
            if reply is None:
                self._record(site, local_model=answer.failure)
                log.warning("  %s: no local model: %s", site, answer.failure)
                return Verdict(False, answer.failure)
            self.federation.records.add(
                self.schedule.rounds, site, {"local_seconds": reply.seconds},
                local_model=reply.missing or "trained",
            )  # fmt: skip
            log.info(
                "  %s: local-only model %s", site,
                f"not trained ({reply.missing})" if reply.missing
                else f"trained, {reply.seconds:.1f} s",
            )  # fmt: skip
            done(site)
            return SETTLED

        Visit(
            self.federation, BASELINE, BaselineReply, lambda _: content, take,
            settled=set(settled), deadlines=self.schedule.rounds,
        ).run()  # fmt: skip

    def validation(self, alphas: list[float]) -> dict[str, list[dict[str, Monitoring]]]:
        """Each site's figures of the global model mixed with the base, one entry per alpha."""
        figures = {}

        def take(site: str, answer: Answer) -> Verdict:
            reply: ValidationReply | None = answer.reply
            if reply is None or len(reply.figures) != len(alphas):
                why = answer.failure or "another number of figures than asked for"
                self._record(site, ensemble=why)
                log.warning("  %s: no figures for the ensemble: %s", site, why)
                return Verdict(False, why)
            figures[site] = reply.figures
            return SETTLED

        content = self._about_the_model(
            lambda manifest: ValidationRequest(manifest=manifest, alphas=alphas)
        )
        Visit(
            self.federation, VALIDATION, ValidationReply, lambda _: content, take, settled=set()
        ).run()
        return figures

    def scores(
        self,
        part: str,
        models: list[ModelName],
        thresholds: dict[str, float],
        scores: dict[str, list[Scores]],
        missing: dict[str, Missing],
        answered: Answered = lambda: None,
    ) -> None:
        """Fill `scores` with what each site that is not among them releases of some models on a
        part of its patients, and `missing` with why another does not; `answered` is called after
        each site."""

        def take(site: str, answer: Answer) -> Verdict:
            reply: ScoreReply | None = answer.reply
            if reply is None:
                missing[site] = "timeout" if answer.status == "timeout" else "error"
                self._record(site, scores=f"{part}: {answer.failure}")
                log.warning("  %s: no %s figures: %s", site, part, answer.failure)
                return Verdict(False, answer.failure)
            if fault := _fault(reply.scores):
                missing[site] = "error"
                log.warning("  %s: %s figures rejected: %s", site, part, fault)
                return Verdict(False, fault)
            scores[site] = reply.scores
            missing.pop(site, None)
            answered()
            return SETTLED

        content = self._about_the_model(
            lambda manifest: ScoreRequest(
                part="test" if part == "test" else "validation",
                models=models,
                manifest=manifest,
                thresholds=thresholds,
            )
        )
        Visit(
            self.federation, SCORES, ScoreReply, lambda _: content, take, settled=set(scores)
        ).run()

    def _about_the_model(self, request: Callable[..., Wire]) -> RecordDict:
        manifest, packed = self.model.packed(self.schedule.last_stage, self.schedule.rounds)
        return to_record(request(manifest), packed)

    def _record(self, site: str, **texts: str) -> None:
        self.federation.records.add(self.schedule.rounds, site, {}, **texts)


def _fault(scores: list[Scores]) -> str | None:
    """What contradicts itself in a site's figures: an exact AUROC must lie within the certified
    bound of its own histogram, and the counts must be the histogram's."""
    for s in scores:
        if s.histogram is None:
            continue
        counts = (s.histogram.total_positives, s.histogram.total_negatives)
        if counts != (s.positives, s.negatives):
            return f"{s.model}, {s.outcome}: counts are not those of the histogram"
        if s.auroc is not None:
            value, bound = pair_auroc(s.histogram, s.histogram)
            if abs(value - s.auroc) > bound + 1e-9:
                return f"{s.model}, {s.outcome}: AUROC is not possible with this histogram"
    return None
