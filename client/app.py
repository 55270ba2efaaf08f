"""The Flower ClientApp: it translates between messages and a participant. `_answer` sends all that
leaves a site.
"""

from fedrad.system.no_telemetry import disable_usage_reports

disable_usage_reports()

import importlib.metadata
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedrad.exchange.encoding import Packed
from fedrad.exchange.experiment import ExperimentError, parse_experiment
from fedrad.exchange.messages import (
    BASELINE,
    READY,
    RELEASE,
    ROUND,
    SCORE,
    VALIDATION,
    MessageError,
    MessageType,
    Readiness,
    ReadyRequest,
    Refusal,
    Reply,
    ReplyT,
    Request,
    RequestT,
    from_record,
    same_minor,
    to_record,
)
from fedrad.flower.last_check import content_id

from .log import site_log
from .node.family import check_not_stopped
from .node.gpu_lock import gpu_lock
from .participant.participant import Participant
from .participant.scoring import Scoring
from .participant.site_data import SiteData
from .participant.withdrawal import withdrawn_now
from .policy.admission import LARGEST_TEXT, check_request, check_still_approved
from .policy.asked_question import question_of
from .policy.integrity import check_site
from .policy.ledger import LEDGER, Ledger
from .policy.question_book import QuestionBook
from .problems import SiteProblem
from .settings import JOINED, Site, open_site

SITES_VARIABLE = "FEDRAD_SIMULATED_SITES"
"""Environment variable of a simulation on one machine: JSON list of node configurations. As it is
set on the machine itself, a coordinator cannot direct a real site to other folders."""

app = ClientApp()


@app.query(READY.action)
def ready(message: Message, context: Context) -> Message:
    """Report whether the site can take part, with its counts, device and versions."""
    return _answer(message, context, READY, lambda participant, _, __: (participant.ready(), None))


@app.train(ROUND.action)
def train(message: Message, context: Context) -> Message:
    """Evaluate the global model, train it for one round, return the update."""
    return _answer(message, context, ROUND, Participant.round)


@app.train(BASELINE.action)
def baseline(message: Message, context: Context) -> Message:
    """Train the site's local-only model."""
    return _answer(
        message,
        context,
        BASELINE,
        lambda participant, request, _: participant.baseline(request),
    )


@app.evaluate(VALIDATION.action)
def validation(message: Message, context: Context) -> Message:
    """Evaluate mixtures of the global model and the base on the validation patients."""
    return _answer(
        message,
        context,
        VALIDATION,
        lambda participant, request, packed: (participant.validation(request, packed), None),
    )


@app.evaluate(SCORE.action)
def score(message: Message, context: Context) -> Message:
    """Score a model on validation or test patients; the scores stay at the site."""
    return _answer(
        message,
        context,
        SCORE,
        lambda participant, request, packed: (Scoring(participant).score(request, packed), None),
    )


@app.evaluate(RELEASE.action)
def release(message: Message, context: Context) -> Message:
    """Release figures of the scored models."""
    return _answer(
        message,
        context,
        RELEASE,
        lambda participant, request, _: (Scoring(participant).release(request), None),
    )


@dataclass
class _Exchange:
    """What is known about a request while it is answered; for the log and the ledger.

    `identity`: of the experiment. `number`: of the question in its book. `received`: SHA-256 of the
    model that came with the request.
    """

    experiment: str
    state: Path | None
    log: logging.Logger
    request: Request | None = None
    identity: str | None = None
    number: int | None = None
    received: str | None = None
    seconds: float = 0.0


def _answer(
    message: Message,
    context: Context,
    asked: MessageType[RequestT, ReplyT],
    answer: Callable[[Participant, RequestT, Packed | None], tuple[ReplyT, Packed | None]],
) -> Message:
    """Compute the reply to a request, record it in the ledger, and send it.

    After any error, only a reason of a fixed list is sent; the details go to the site's log.

    Parameters
    ----------
    message, context
        Flower's.
    asked
        The expected type of request and reply.
    answer
        Computes the reply, and the packed array that is sent with it.
    """
    exchange = _Exchange(
        f"run {message.metadata.run_id}", _state(context), logging.getLogger("fedrad.site")
    )
    packed: Packed | None = None
    reply: Reply
    try:
        reply, packed = _admitted(exchange, message, context, asked, answer)
    except SiteProblem as problem:
        exchange.log.error("%s", problem)
        reply = Refusal(reason=problem.reason)
    except ExperimentError as error:
        exchange.log.error("experiment not understood: %s", error)
        reply = Refusal(reason="experiment")
    except MessageError as error:
        exchange.log.error("request not understood: %s", error)
        reply = Refusal(reason="request")
    except Exception:
        exchange.log.exception("unexpected error")
        reply = Refusal(reason="internal")
    record = to_record(reply, packed)
    try:
        check_not_stopped(context.node_config)
        if exchange.state is not None:
            Ledger(exchange.state / LEDGER).record(
                exchange.experiment,
                reply,
                packed,
                asked=exchange.request,
                seconds=exchange.seconds,
                identity=exchange.identity,
                number=exchange.number,
                received=exchange.received,
                request=message.metadata.message_id,
                content=content_id(record),
            )
    except SiteProblem as problem:
        exchange.log.error("%s", problem)
        record = to_record(Refusal(reason=problem.reason))
    except Exception:  # Flower would send the text of an exception to the server
        exchange.log.exception("the ledger cannot be written, so nothing leaves")
        record = to_record(Refusal(reason="internal"))
    return Message(record, reply_to=message)  # the node sends what the ledger has, and nothing else


def _admitted(
    exchange: _Exchange,
    message: Message,
    context: Context,
    asked: MessageType[RequestT, ReplyT],
    answer: Callable[[Participant, RequestT, Packed | None], tuple[ReplyT, Packed | None]],
) -> tuple[ReplyT, Packed | None]:
    """The reply to a request, if the site's policy admits it and the experiment's question book has
    the question open. A question that was answered before gets the same answer again."""
    request, received = from_record(message.content, asked.request)
    exchange.request = request
    site = _site(context)
    exchange.state = site.state
    exchange.log = site_log(site.name, site.state)
    if isinstance(request, ReadyRequest):
        _check_version(request)
    text = str(context.run_config["experiment"])
    if len(text) > LARGEST_TEXT:
        raise SiteProblem("experiment", f"the experiment's text has {len(text)} characters")
    experiment = parse_experiment(text)
    exchange.experiment, exchange.identity = experiment.name, experiment.family
    decision = check_request(site, experiment, text, request, Ledger(site.state / LEDGER))
    question = question_of(request, experiment, site.name)
    participant = _participant(site, text)
    model = participant.received_model(request, received)
    exchange.received = model.sha256 if model else None
    book = QuestionBook(site, experiment, participant.data.folder / "answers", exchange.log)
    words = request.model_dump_json(exclude={"manifest"})
    run = context.run_id
    with book.visit(question, exchange.received, words, run=run, approval=decision) as visit:
        exchange.number = visit.number
        if visit.earlier is not None:
            exchange.log.info("%s: %s, the stored answer", experiment.name, question)
            reply, packed = visit.earlier
        else:
            computes = not isinstance(request, ReadyRequest)
            started = time.perf_counter()
            with gpu_lock(participant.data.device, exchange.log) if computes else nullcontext():
                reply, packed = answer(participant, request, received)
            exchange.seconds = time.perf_counter() - started
            if isinstance(reply, Readiness):
                reply = book.first_counts(reply)
            if decision is not None:
                check_still_approved(site, experiment, text)
            _check_withdrawals(participant.data)
            check_not_stopped(context.node_config)
            visit.answer = reply, packed
    assert isinstance(reply, asked.reply)
    return reply, packed


def _check_withdrawals(data: SiteData) -> None:
    """Refuse an answer in which there is a patient who withdrew while it was computed; if it is
    asked for again, it is computed without."""
    withdrawn = withdrawn_now(data.site)
    if any(unit.key in withdrawn for unit in data.cohort.units):
        _participant.cache_clear()
        raise SiteProblem(
            "cohort", "a patient withdrew while the answer was computed, so it does not leave"
        )


def _check_version(request: ReadyRequest) -> None:
    """Refuse a coordinator of an incompatible version, before anything else is done."""
    theirs, ours = request.fedrad, importlib.metadata.version("fedrad")
    if not same_minor(ours, theirs):
        raise SiteProblem(
            "version", f"this site runs fedrad {ours}, the coordinator {theirs}: install the same"
        )


def _state(context: Context) -> Path | None:
    """State folder with the ledger, if the node configuration names it; `site.toml` is not read."""
    state = context.node_config.get("state")
    return Path(str(state)) if state else None


def _site(context: Context) -> Site:
    """Open the site that the node configuration names: `folder`, optionally `name` and `state`. A
    node that a hospital runs is checked; one of a simulation has nothing to be checked."""
    config = dict(context.node_config)
    if (simulated := os.environ.get(SITES_VARIABLE)) and "partition-id" in config:
        config = json.loads(simulated)[int(config["partition-id"])]
    if "folder" not in config:
        raise SiteProblem("cohort", "the node configuration names no folder")
    name, state = config.get("name"), config.get("state")
    site = open_site(
        Path(str(config["folder"])),
        name=str(name) if name else None,
        state=Path(str(state)) if state else None,
    )
    if config.get(JOINED) or site.joined:
        check_site(site)
    return site


@lru_cache(maxsize=8)
def _participant(site: Site, experiment: str) -> Participant:
    """The participant; cached, so that one process reads a site's folder once per experiment."""
    return Participant(SiteData(site, parse_experiment(experiment)))
