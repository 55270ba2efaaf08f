"""The Flower ClientApp: translates between messages and a participant. All that leaves a site
leaves through `_answer`.
"""

from fedrad.exchange.quiet import be_quiet

be_quiet()

import importlib.metadata
import json
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message, RecordDict
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
    BaselineRequest,
    MessageError,
    ReadyRequest,
    Refusal,
    ReleaseRequest,
    Reply,
    RoundRequest,
    ScoreRequest,
    ValidationRequest,
    from_record,
    same_minor,
    to_record,
)

from .generating import participant_of
from .ledger import Ledger
from .log import site_log
from .participant import Participant
from .problems import SiteProblem
from .scoring import Scoring
from .settings import Site, open_site
from .turns import turn

SITES_VARIABLE = "FEDRAD_SIMULATED_SITES"
"""Environment of a simulation on one machine: JSON list of node configurations. Set on the
machine itself, so a coordinator cannot point a real site elsewhere."""

Answer = Callable[[Participant, RecordDict], tuple[Reply, Packed | None]]

app = ClientApp()


@app.query(READY.split(".")[1])
def ready(message: Message, context: Context) -> Message:
    """Can the site take part, and with what?"""
    return _answer(message, context, _ready)


@app.train(ROUND.split(".")[1])
def train(message: Message, context: Context) -> Message:
    """One round: evaluate the global model, train it, return the update."""
    return _answer(
        message, context,
        lambda participant, record: participant.round(*from_record(record, RoundRequest)),
    )  # fmt: skip


@app.train(BASELINE.split(".")[1])
def baseline(message: Message, context: Context) -> Message:
    """Train the site's local-only model."""
    return _answer(
        message, context,
        lambda participant, record: participant.baseline(from_record(record, BaselineRequest)[0]),
    )  # fmt: skip


@app.evaluate(VALIDATION.split(".")[1])
def validation(message: Message, context: Context) -> Message:
    """Evaluate mixtures of the global model and the base on the validation patients."""
    return _answer(
        message, context,
        lambda participant, record: (
            participant.validation(*from_record(record, ValidationRequest)), None
        ),
    )  # fmt: skip


@app.evaluate(SCORE.split(".")[1])
def score(message: Message, context: Context) -> Message:
    """Score a model on validation or test patients; the scores stay."""
    return _answer(
        message, context,
        lambda participant, record: (
            Scoring(participant).score(*from_record(record, ScoreRequest)), None
        ),
    )  # fmt: skip


@app.evaluate(RELEASE.split(".")[1])
def release(message: Message, context: Context) -> Message:
    """Release figures of the models that were scored."""
    return _answer(
        message, context,
        lambda participant, record: (
            Scoring(participant).release(from_record(record, ReleaseRequest)[0]), None
        ),
    )  # fmt: skip


def _ready(participant: Participant, record: RecordDict) -> tuple[Reply, None]:
    """Before any work: do coordinator and site understand each other?"""
    theirs, ours = from_record(record, ReadyRequest)[0].fedrad, importlib.metadata.version("fedrad")
    if not same_minor(ours, theirs):
        raise SiteProblem(
            "version", f"this site runs fedrad {ours}, the coordinator {theirs}: install the same"
        )
    return participant.ready(), None


def _answer(message: Message, context: Context, answer: Answer) -> Message:
    """Run an answer; record in the ledger what it says; send that and nothing else.

    Whatever goes wrong, one word of a fixed list leaves the site. The story stays in its log.
    """
    site: Site | None = None
    packed: Packed | None = None
    reply: Reply
    experiment = f"run {message.metadata.run_id}"
    log = logging.getLogger("fedrad.site")
    try:
        site = _site(context)
        log = site_log(site.name, site.state)
        participant = _participant(site, str(context.run_config["experiment"]))
        experiment = participant.experiment.name
        works = message.metadata.message_type != READY
        with turn(participant.device, log) if works else nullcontext():
            reply, packed = answer(participant, message.content)
    except SiteProblem as problem:
        log.error("%s", problem)
        reply = Refusal(reason=problem.reason)
    except ExperimentError as error:
        log.error("experiment not understood: %s", error)
        reply = Refusal(reason="experiment")
    except MessageError as error:
        log.error("request not understood: %s", error)
        reply = Refusal(reason="request")
    except Exception:
        log.exception("unexpected error")
        reply = Refusal(reason="internal")
    try:
        if site is not None:
            size = 0 if packed is None else packed.nbytes
            Ledger(site.state / "ledger.jsonl").record(experiment, reply, size)
    except Exception:  # its text would leave: Flower sends the exceptions of an app to the server
        log.exception("the ledger cannot be written, so nothing leaves")
        reply, packed = Refusal(reason="internal"), None
    return Message(to_record(reply, packed), reply_to=message)


def _site(context: Context) -> Site:
    """The site of this node's own configuration: `folder`, optionally `name` and `state`."""
    config = dict(context.node_config)
    if (simulated := os.environ.get(SITES_VARIABLE)) and "partition-id" in config:
        config = json.loads(simulated)[int(config["partition-id"])]
    if "folder" not in config:
        raise SiteProblem("cohort", "the node configuration names no folder")
    name, state = config.get("name"), config.get("state")
    return open_site(
        Path(str(config["folder"])), name=str(name) if name else None,
        state=Path(str(state)) if state else None,
    )  # fmt: skip


@lru_cache(maxsize=8)
def _participant(site: Site, experiment: str) -> Participant:
    """Kept between the messages of one process; a site's folder is read once an experiment."""
    return participant_of(site, parse_experiment(experiment))
