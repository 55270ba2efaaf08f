"""A coordinator that sends one site the requests of its choice, through the site's ClientApp."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, RecordDict
from torch import nn

from fedrad.client.app import app
from fedrad.client.policy.ledger import LEDGER, Ledger
from fedrad.exchange.encoding import Packed
from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.messages import (
    BASELINE,
    READY,
    RELEASE,
    ROUND,
    SCORE,
    VALIDATION,
    BaselineRequest,
    MessageType,
    ReadyRequest,
    Refusal,
    ReleaseRequest,
    Reply,
    Request,
    RoundRequest,
    ScoreRequest,
    ValidationRequest,
    reply_from_record,
    to_record,
)
from fedrad.exchange.update import Manifest, pack
from fedrad.flower.grid import InProcessGrid
from fedrad.models.network import stage_tensors

TYPES: Mapping[type[Request], MessageType] = {
    ReadyRequest: READY,
    RoundRequest: ROUND,
    BaselineRequest: BASELINE,
    ValidationRequest: VALIDATION,
    ScoreRequest: SCORE,
    ReleaseRequest: RELEASE,
}


class Coordinator:
    """Sends requests to the site in a folder. `text`: the experiment."""

    def __init__(self, folder: Path, state: Path, text: str) -> None:
        self.state = state
        self.text = text
        self.experiment = parse_experiment(text)
        self.config = {"folder": str(folder), "name": folder.name, "state": str(state)}
        self.start = self.experiment.task.load_start(self.experiment)
        self.packed: Packed | None = None
        """Array of the last answer."""

    def ask(
        self, request: Request, packed: Packed | None = None, *, run: int = 1, text: str = ""
    ) -> Reply:
        """The site's reply to a request."""
        grid = InProcessGrid(app, [self.config], {"experiment": text or self.text})
        kind = TYPES[type(request)]
        message = grid.create_message(to_record(request, packed), kind.name, 1, "")
        context = Context(
            run_id=run,
            node_id=1,
            node_config=dict(self.config),
            state=RecordDict(),
            run_config={"experiment": text or self.text},
        )
        answer: Message = app(message, context)
        reply, self.packed = reply_from_record(answer.content, kind.reply)
        return reply

    def reason(self, request: Request, packed: Packed | None = None, **how) -> str | None:
        """The reason of the site's refusal; None if it answers."""
        reply = self.ask(request, packed, **how)
        return reply.reason if isinstance(reply, Refusal) else None

    # Requests

    def model(self, change: float = 0.0, round_: int | None = None) -> tuple[Manifest, Packed]:
        """The base network moved by `change` in each learned value, as the model of a round (None
        for the final one)."""
        network, schedule = self.start.network, self.experiment.schedule
        number = schedule.rounds if round_ is None else round_
        stage = schedule.stage(min(number, schedule.rounds - 1))
        tensors = {k: v.numpy().astype(np.float32) for k, v in network.state_dict().items()}
        learned = {name for name, _ in network.named_parameters()}
        moved = {k: v + np.float32(change) if k in learned else v for k, v in tensors.items()}
        return self.send(moved, number, stage)

    def crafted(self, network: nn.Module, round_: int | None) -> tuple[Manifest, Packed]:
        """A network of the attacker's own as the model of a round, or as the final one."""
        tensors = {k: v.numpy().astype(np.float32) for k, v in network.state_dict().items()}
        schedule = self.experiment.schedule
        if round_ is None:
            return self.send(tensors, schedule.rounds, schedule.last_stage)
        return self.send(tensors, round_, schedule.stage(round_))

    def send(self, tensors, round_: int, stage) -> tuple[Manifest, Packed]:
        return pack(
            tensors,
            stage_tensors(self.start.network, stage, self.experiment.recipe),
            round_=round_,
            stage=stage,
            base_sha256=self.start.digest,
        )

    def round(self, number: int, change: float | None = None) -> tuple[RoundRequest, Packed]:
        """The request of a round; by default the model moves a little in each round."""
        manifest, packed = self.model(number * 1e-4 if change is None else change, number)
        return RoundRequest(round=number, manifest=manifest), packed

    def score(self, part, model="global", change: float = 0.0) -> tuple[ScoreRequest, Packed]:
        manifest, packed = self.model(change)
        return ScoreRequest(part=part, model=model, manifest=manifest), packed

    def validation(self, alphas, change: float = 0.0) -> tuple[ValidationRequest, Packed]:
        manifest, packed = self.model(change)
        return ValidationRequest(manifest=manifest, alphas=list(alphas)), packed

    # What the site wrote

    def ledger(self) -> list[dict]:
        return Ledger(self.state / LEDGER).entries()

    def answered(self) -> list[dict]:
        """Ledger entries of answers that are no refusals."""
        return [e for e in self.ledger() if e["message"]["kind"] not in ("refusal", "decision")]


def one_round(folder: str, state: str, text: str) -> tuple[str, int]:
    """The answer to a first round, as JSON, and a sum over its update; for a process of its own."""
    coordinator = Coordinator(Path(folder), Path(state), text)
    reply = coordinator.ask(*coordinator.round(0))
    assert coordinator.packed is not None
    return reply.model_dump_json(), int(coordinator.packed.astype(np.int64).sum())
