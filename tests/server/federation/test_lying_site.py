"""Whatever one site answers, it is that site's failure: the run goes on with the others, and
nothing of the answer gets into log, records or report."""

import json
import logging
import sqlite3

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from support.federation import TEXT, Hospital, RunningFederation, TimedGrid
from support.hospital import EXPERIMENT, write_site

from fedrad.client.app import app as client_app
from fedrad.deploy.local.simulation import prepare
from fedrad.exchange.messages import (
    READY,
    RELEASE,
    Counts,
    Refusal,
    RoundReply,
    to_record,
)
from fedrad.flower.grid import InProcessGrid
from fedrad.server.experiment import run_experiment
from fedrad.server.rounds import open_round
from fedrad.server.rounds.spool import Spool

HOSTILE = "\x1b]0;owned\x07\x1b[2J" + 2**21 * "A"
"""A name of two megabytes that clears a terminal and renames its window."""


def record(**fields: object) -> RecordDict:
    return RecordDict({"message": ConfigRecord({"json": json.dumps(fields)})})


def reply(**changes: object) -> RecordDict:
    """An answer in a round, of one site that only evaluates, with changes."""
    right = RoundReply(
        manifest=None, patients=0, images=0, loss=None, steps=0, seconds=1, monitoring={}
    ).model_dump()
    return record(**(right | changes))


def of_array(array: Array) -> RecordDict:
    answer = reply()
    answer["packed"] = ArrayRecord({"flat": array})
    return answer


NPY = b"\x93NUMPY\x01\x00"
ANSWERS = {
    "no message": RecordDict(),
    "no JSON": RecordDict({"message": ConfigRecord({"json": HOSTILE})}),
    "another field": reply(**{HOSTILE: 1}),
    "another kind": reply(kind=HOSTILE),
    "more patients than there are atoms": reply(patients=10**400),
    "negative seconds": reply(seconds=-1.0),
    "absurd loss": reply(loss=1e300),
    "another outcome": reply(monitoring={"label_of_Mueller": {"auroc": 0.5}}),
    "hostile outcome": reply(monitoring={HOSTILE: {}}),
    "more patients than images": reply(patients=5, images=4),
    "pickled objects": of_array(Array("uint8", (3,), "numpy.ndarray", NPY + b"\x00" * 200)),
    "another serialisation": of_array(Array("uint8", (3,), "owned", b"owned")),
    "an array larger than memory": of_array(
        Array(
            "uint8",
            (3,),
            "numpy.ndarray",
            NPY
            + b"v\x00"
            + b"{'descr': '|u1', 'fortran_order': False, 'shape': (10**18,), }".ljust(118),
        )
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_cannot_be_is_the_failure_of_its_site_alone(
    tmp_path, base, clock, caplog, name
):
    liar = Hospital("liar", base, behaves=lambda *_: ANSWERS[name])
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), liar)
    coordinator = RunningFederation(tmp_path, base, grid)
    result = coordinator.round()
    assert {s: r.status for s, r in result.sites.items()} == {
        "a": "ok",
        "b": "ok",
        "liar": "invalid",
    }
    assert coordinator.moved(base) == pytest.approx(1.0)
    texts = [r.text for r in coordinator.records.all() if r.text]
    for text in [*texts, caplog.text, result.model_dump_json()]:
        assert "AAA" not in text
        assert "owned" not in text
        assert "Mueller" not in text
        assert "\x1b" not in text
    assert max(map(len, texts)) < 1000


def test_an_update_that_names_other_tensors_does_not_write_them_into_the_log(
    tmp_path, base, clock, caplog
):
    def renamed(hospital, request):
        hospital.behaves = None
        answer = hospital.answer(request, np.zeros(request.manifest.nbytes, np.uint8))
        hospital.behaves = renamed
        message = json.loads(answer["message"]["json"])
        message["manifest"]["names"][0] = "owned"
        answer["message"] = ConfigRecord({"json": json.dumps(message)})
        return answer

    liar = Hospital("liar", base, behaves=renamed)
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), liar)
    coordinator = RunningFederation(tmp_path, base, grid)
    assert "tensors differ from the stage's" in coordinator.round().sites["liar"].why
    assert "owned" not in caplog.text
    assert "owned" not in "".join(r.text or "" for r in coordinator.records.all())


def test_an_error_of_ours_while_an_answer_is_spooled_is_the_failure_of_its_site(
    tmp_path, base, clock, caplog, monkeypatch
):
    spool = Spool.add

    def add(self, name, *more):
        if name == "liar":
            raise ZeroDivisionError("owned")
        spool(self, name, *more)

    monkeypatch.setattr(Spool, "add", add)
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), Hospital("liar", base))
    coordinator = RunningFederation(tmp_path, base, grid)
    result = coordinator.round()
    assert result.sites["liar"].status == "invalid"
    assert result.sites["liar"].why == "its answer cannot be used (ZeroDivisionError)"
    assert "ZeroDivisionError in add, line" in caplog.text
    assert "owned" not in caplog.text


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), sqlite3.Error("disk")])
def test_a_full_disk_of_the_coordinator_is_no_failure_of_a_site(
    tmp_path, base, clock, monkeypatch, error
):
    def full(*_):
        raise error

    monkeypatch.setattr(open_round, "checked_update", full)
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base))
    coordinator = RunningFederation(tmp_path, base, grid)
    with pytest.raises(type(error)):
        coordinator.round()


class Garbled(TimedGrid):
    """A grid that cannot decode what the third node sends."""

    def pull_messages(self, message_ids):
        messages = super().pull_messages(message_ids)
        for message in messages:
            if message.metadata.src_node_id == 3 and message.metadata.message_type != READY.name:
                raise UnicodeDecodeError("utf-8", b"owned", 0, 1, HOSTILE)
        return messages


def test_a_message_that_flower_cannot_decode_is_the_failure_of_its_site(
    tmp_path, base, clock, caplog
):
    grid = Garbled(clock, Hospital("a", base), Hospital("b", base), Hospital("liar", base))
    coordinator = RunningFederation(tmp_path, base, grid)
    result = coordinator.round()
    assert result.sites["liar"].status == "invalid"
    assert result.sites["liar"].why == "its answer cannot be used (UnicodeDecodeError)"
    assert "owned" not in caplog.text


# Before the first round


class Unready(Hospital):
    """A site whose readiness is what `answer` makes of an honest one."""

    def __init__(self, *about, answer, **more) -> None:
        super().__init__(*about, **more)
        self.changed = answer

    def ready(self):
        return self.changed(super().ready().model_dump(mode="json"))


@pytest.mark.parametrize(
    "changes",
    [
        {"site": HOSTILE},
        {"torch": HOSTILE},
        {"threads": -1},
        {"threads": 10**400},
        {"units": {"train": {HOSTILE: {"positives": 1, "negatives": 1}}}},
        {"units": {"train": {"label_of_Mueller": {"positives": 1, "negatives": 1}}}},
        {"units": {"train": {"label": {"positives": 10**400, "negatives": 1}}}},
    ],
)
def test_a_site_whose_readiness_cannot_be_does_not_take_part(
    tmp_path, base, clock, caplog, changes
):
    liar = Unready("liar", base, answer=lambda right: record(**(right | changes)))
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), liar)
    coordinator = RunningFederation(tmp_path, base, grid)
    assert coordinator.round().sites.keys() == {"a", "b"}
    ((name, why),) = coordinator.federation.absent.items()
    assert name in ("node 3", "liar")
    for text in (why, caplog.text, *(r.text or "" for r in coordinator.records.all())):
        assert "AAA" not in text
        assert "Mueller" not in text
        assert "\x1b" not in text


def test_a_held_out_site_that_says_it_trains_does_not_take_part(tmp_path, base, clock):
    text = TEXT.replace("minimum_units = 3", 'minimum_units = 3\nheld_out = ["b"]')
    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), Hospital("c", base))
    coordinator = RunningFederation(tmp_path, base, grid, text=text)
    assert coordinator.round().sites.keys() == {"a", "c"}
    assert "is held out" in coordinator.federation.absent["b"]


def test_an_update_of_a_site_that_declared_not_to_train_is_not_used(tmp_path, base, clock):
    class Evaluates(Hospital):
        def ready(self):
            return super().ready().model_copy(update={"trains": False})

    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), Evaluates("liar", base))
    coordinator = RunningFederation(tmp_path, base, grid)
    result = coordinator.round()
    assert "had declared that it only evaluates" in result.sites["liar"].why


def test_an_auroc_without_both_classes_is_a_contradiction(tmp_path, base, clock):
    class OneClass(Hospital):
        def ready(self):
            units = {"validation": {"label": Counts(positives=0, negatives=9)}}
            ready = super().ready()
            return ready.model_copy(update={"units": ready.units | units})

    grid = TimedGrid(clock, Hospital("a", base), Hospital("b", base), OneClass("liar", base))
    coordinator = RunningFederation(tmp_path, base, grid)
    result = coordinator.round()
    assert "no validation patients of one class" in result.sites["liar"].why
    assert result.sites["liar"].auroc == {}, "it decides about no best round"


@pytest.mark.parametrize("reason", ["asked", "implausible"])
def test_a_site_that_refuses_the_rounds_model_is_not_asked_again_in_this_round(
    tmp_path, base, clock, reason
):
    refuses = Hospital(
        "c", base, behaves=lambda _, r: to_record(Refusal(reason=reason)) if r.round == 0 else None
    )
    slow = Hospital("b", base)
    coordinator = RunningFederation(
        tmp_path, base, TimedGrid(clock, Hospital("a", base), slow, refuses)
    )
    slow.takes = 500
    result = coordinator.round(0)
    assert result.sites["c"].status == "refused"
    assert refuses.asked == [0]
    slow.takes = 5
    assert coordinator.round(1).sites["c"].status == "ok"


# A whole run


class Lying(InProcessGrid):
    """A grid whose last node answers everything but the first request with hostile records."""

    def pull_messages(self, message_ids):
        replies = []
        for message in super().pull_messages(message_ids):
            answer, kind = message, message.metadata.message_type
            if message.metadata.src_node_id == 3 and kind != READY.name:
                answer = Message(self.hostile(kind, message), reply_to=self._request(message))
            replies.append(answer)
        return replies

    def push_messages(self, messages):
        messages = list(messages)
        ids = super().push_messages(messages)
        self.asked = {**getattr(self, "asked", {}), **dict(zip(ids, messages, strict=True))}
        return ids

    def _request(self, message):
        return self.asked[message.metadata.reply_to_message_id]

    def hostile(self, kind: str, message: Message) -> RecordDict:
        if kind == RELEASE.name and self.odd_release:
            return self.odd_release(message.content)
        return record(kind=HOSTILE, **{HOSTILE: HOSTILE})

    odd_release = None


def run(tmp_path, grid: type[InProcessGrid]):
    sites = {name: write_site(tmp_path / name, 40, seed=i) for i, name in enumerate("abc")}
    file = tmp_path / "experiment.toml"
    file.write_text(EXPERIMENT.replace("rounds = 2", "rounds = 1"))
    nodes = prepare(file, sites, tmp_path / "out").nodes
    grid = grid(client_app, nodes, {"experiment": file.read_text()})
    return run_experiment(grid, file.read_text(), tmp_path / "out", wait_seconds=0)


def test_a_site_that_lies_in_every_answer_leaves_the_run_to_the_others(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    summary = run(tmp_path, Lying)
    assert summary.status == "completed"
    assert [r.sites["c"].status for r in summary.rounds] == ["invalid"]
    assert {c.site for c in summary.cells if c.auroc is not None} == {"a", "b"}
    for file in (tmp_path / "out").iterdir():
        if file.is_file():
            assert b"owned" not in file.read_bytes(), file
            assert b"AAAA" not in file.read_bytes(), file
    assert "AAAA" not in caplog.text
    assert "\x1b" not in caplog.text
