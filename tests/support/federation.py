"""A coordinator and hospitals without a network, for tests of rounds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from flwr.app import Error, Message, RecordDict
from support.hospital import EXPERIMENT, ManualClock
from support.readiness import readiness_with

from fedrad.exchange.experiment import parse_experiment
from fedrad.exchange.messages import (
    READY,
    Counts,
    Monitoring,
    Readiness,
    RoundReply,
    RoundRequest,
    from_record,
    to_record,
)
from fedrad.exchange.update import flatten, pack, unflatten, unpack
from fedrad.flower.grid import InProcessGrid
from fedrad.server.federation.federation import Federation
from fedrad.server.federation.records import Records
from fedrad.server.rounds.global_model import GlobalModel
from fedrad.server.rounds.open_round import OpenRound

TRAINS, LOST = "trains", Error(3, "node unavailable")
TEXT = EXPERIMENT.replace("rounds = 2", "rounds = 9\ndeadline_minutes = 10\nquorum = 2\nclip = 1e4")
"""Scripted sites move every value by 1 and more, which is far for a network of 200,000 values."""


def halves(units: int) -> Counts:
    """Counts of so many units."""
    return Counts(positives=units // 2, negatives=units - units // 2)


class Hospital:
    """A scripted site. Its update moves every value by `step`; `behaves` may answer otherwise. It
    trains on `units`, and declares as many unless `declares` is another number or None (withheld).
    """

    def __init__(
        self, name: str, base, *, step=1.0, takes=5.0, behaves=None, units=10, declares=...
    ) -> None:
        self.name, self.base, self.step, self.takes = name, base, step, takes
        self.behaves, self.units = behaves, units
        self.declares = units if declares is ... else declares
        self.here = True
        self.asked: list[int] = []

    def ready(self) -> Readiness:
        return readiness_with(
            site=self.name,
            base_sha256=self.base.digest,
            units={} if self.declares is None else {"train": {"label": halves(self.declares)}},
        )

    def answer(self, request: RoundRequest, packed: np.ndarray) -> Message | object:
        self.asked.append(request.round)
        if self.behaves is not None and (other := self.behaves(self, request)) is not None:
            return other
        manifest = request.manifest
        values = unpack(manifest, packed) + np.float32(self.step)
        sent, update = pack(
            unflatten(manifest, values),
            manifest.names,
            round_=manifest.round,
            stage=manifest.stage,
            base_sha256=manifest.base_sha256,
        )
        reply = RoundReply(
            manifest=sent,
            patients=self.units,
            images=self.units,
            loss=0.5,
            steps=1,
            seconds=1,
            monitoring={"label": Monitoring(auroc=0.5)},
        )
        return to_record(reply, update)


class TimedGrid(InProcessGrid):
    """A grid whose hospitals reply after a time, on a manual clock."""

    def __init__(self, clock: ManualClock, *hospitals: Hospital) -> None:
        super().__init__(None, [{} for _ in hospitals], {})
        self.clock = clock
        self.hospitals = dict(enumerate(hospitals, start=1))
        self.due: dict[str, tuple[float, Message]] = {}
        self.events: list[tuple[float, Callable[[], None]]] = []

    def at(self, seconds: float, event: Callable[[], None]) -> None:
        self.events.append((self.clock.now + seconds, event))

    def move(self, name: str, here: bool) -> Callable[[], None]:
        def event() -> None:
            next(h for h in self.hospitals.values() if h.name == name).here = here

        return event

    def get_node_ids(self):
        for time, event in list(self.events):
            if time <= self.clock.now:
                self.events.remove((time, event))
                event()
        return [node for node, hospital in self.hospitals.items() if hospital.here]

    def push_messages(self, messages):
        messages = list(messages)
        ids = list(super().push_messages(messages))
        for message, number in zip(messages, ids, strict=True):
            hospital = self.hospitals[message.metadata.dst_node_id]
            self.due[number] = (self.clock.now + hospital.takes, message)
        return ids

    def pull_messages(self, message_ids):
        replies = []
        for number in message_ids:
            time, message = self.due[number]
            hospital = self.hospitals[message.metadata.dst_node_id]
            if time > self.clock.now:
                continue
            if message.metadata.message_type == READY.name:
                ready = hospital.ready()
                content = ready if isinstance(ready, RecordDict) else to_record(ready)
            else:
                content = hospital.answer(*from_record(message.content, RoundRequest))
            if content is TRAINS:
                continue
            del self.due[number]
            replies.append(Message(content, reply_to=message))
        return replies


class RunningFederation:
    """A federation whose sites have answered the first request, and its rounds."""

    def __init__(self, folder: Path, base, grid: TimedGrid, *, text=TEXT, patience=3600.0) -> None:
        self.experiment = parse_experiment(text)
        self.records = Records(folder / "records.sqlite")
        self.folder = folder
        self.federation = Federation(
            grid,
            self.experiment,
            base.digest,
            self.records,
            patience_seconds=patience,
            stop_file=folder / "stop",
        )
        self.model = GlobalModel(self.experiment, base)
        self.current: set[str] = set()
        self.federation.gather()

    def round(self, number: int = 0):
        opened = OpenRound(self.federation, self.model, number, self.folder / "spool", self.current)
        result, self.current = opened.run()
        opened.spool.clear()
        return result

    def texts(self, metric: str) -> list[str]:
        return [r.text for r in self.records.all() if r.metric == metric]

    def moved(self, base) -> float:
        """How far every learned value of the global model is from the base's."""
        names = ["fc.weight", "conv1.weight"]
        values = [
            flatten({k: v.numpy() for k, v in network.state_dict().items()}, names)
            for network in (self.model.network, base.network)
        ]
        step = values[0] - values[1]
        assert np.allclose(step, step[0], atol=1e-5)
        return float(step[0])
