"""The ledger holds every message before it is sent, and no later change goes unnoticed."""

import json
import multiprocessing
import stat
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrad.client.policy.ledger import Ledger, LedgerError
from fedrad.exchange.messages import Refusal, ScoreReply, ScoreRequest


def filled(folder: Path, number: int = 5) -> Ledger:
    ledger = Ledger(folder / "state" / "ledger.jsonl")
    for _ in range(number):
        ledger.record("bpd", Refusal(reason="cohort"))
    return ledger


def test_a_line_has_the_request_the_message_and_its_hash(tmp_path):
    ledger, packed = filled(tmp_path, 0), np.arange(7, dtype=np.uint8)
    reply = ScoreReply()
    ledger.record(
        "bpd", reply, packed, asked=ScoreRequest(part="test", model="global"), seconds=1.23456
    )
    (entry,) = ledger.entries()
    assert entry["asked"] == {"kind": "score request", "part": "test", "model": "global"}
    assert entry["sha256"] == sha256(reply.model_dump_json().encode() + bytes(packed)).hexdigest()
    assert entry["tensor_bytes"] == 7
    assert entry["message_bytes"] == len(reply.model_dump_json())
    assert entry["seconds"] == 1.235
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_byte_of_a_ledger_can_be_changed_unnoticed(tmp_path_factory, data):
    ledger = filled(tmp_path_factory.mktemp("ledger"), 4)
    content = bytearray(ledger.path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != content[at]))
    content[at] = byte
    ledger.path.write_bytes(content)
    try:
        content = ledger.read()
    except LedgerError:
        return
    # What is left: the end of the last line itself, which then counts as cut off by a crash.
    assert content.cut_off
    assert len(content.entries) == 3


@pytest.mark.parametrize(
    ("written", "instead"),
    [(b'": ', b'":\t'), (b'{"format"', b'{"experiment": "other", "format"')],
)
def test_a_line_that_says_the_same_in_other_bytes_was_changed(tmp_path, written, instead):
    ledger = filled(tmp_path, 3)
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(written, instead, 1)
    ledger.path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match=r"line [23]"):
        ledger.read()


@pytest.mark.parametrize("gone", [0, 1, 3])
def test_a_line_cannot_be_taken_out_or_moved(tmp_path, gone):
    ledger = filled(tmp_path)
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    with pytest.raises(LedgerError, match=f"line {gone + 1}"):
        ledger.read()
    lines[gone], lines[gone + 1] = lines[gone + 1], lines[gone]
    ledger.path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError):
        ledger.read()


def test_lines_removed_from_the_end_change_the_head(tmp_path):
    ledger = filled(tmp_path)
    head = ledger.read().head
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(b"".join(lines[:-1]))
    assert ledger.read().head != head


@given(st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_a_line_cut_off_by_a_crash_is_reported_and_the_ledger_goes_on(tmp_path_factory, lost):
    ledger = filled(tmp_path_factory.mktemp("ledger"), 3)
    content = ledger.path.read_bytes()
    last = content.rstrip(b"\n").rpartition(b"\n")[2]
    lost = min(lost, len(last))
    ledger.path.write_bytes(content[:-lost])
    content = ledger.read()
    whole = 2 + (lost == 1)  # a line without its end is still complete
    assert len(content.entries) == whole
    assert content.cut_off == (0 if lost == 1 else len(last) + 1 - lost)
    ledger.record("bpd", Refusal(reason="internal"))
    again = ledger.read()
    reasons = [e["message"]["reason"] for e in again.entries]
    assert reasons == ["cohort"] * whole + ["internal"]
    assert not again.cut_off
    # The chain has the hash of the fragment: another fragment is not accepted.
    if content.cut_off:
        changed = ledger.path.read_bytes().split(b"\n")
        changed[2] += b"x"
        ledger.path.write_bytes(b"\n".join(changed))
        with pytest.raises(LedgerError):
            ledger.read()


def test_nothing_is_written_after_a_last_line_that_was_changed(tmp_path):
    ledger = filled(tmp_path)
    ledger.path.write_bytes(ledger.path.read_bytes() + b"nonsense\n")
    with pytest.raises(LedgerError, match="last line"):
        ledger.record("bpd", Refusal(reason="cohort"))


def _write(path: Path, number: int) -> None:
    for _ in range(number):
        Ledger(path).record("bpd", Refusal(reason="cohort"))


def test_writers_of_several_processes_make_one_chain(tmp_path):
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(path, 25)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(Ledger(path).entries()) == 100


def test_a_line_costs_the_same_however_long_the_ledger_is(tmp_path, monkeypatch):
    ledger = filled(tmp_path)
    line = ledger.path.read_bytes().splitlines(keepends=True)[-1]
    with ledger.path.open("r+b") as file:  # a ledger of 2 GB, of which the end is real
        file.truncate(2**31)
    with ledger.path.open("ab") as file:
        file.write(b"\n" + line)
    monkeypatch.setattr(Path, "read_bytes", None)
    ledger.record("bpd", Refusal(reason="cohort"))


def test_entries_since_a_moment_are_read_from_the_end(tmp_path):
    ledger = filled(tmp_path, 3)
    now = datetime.now(UTC)
    assert len(list(ledger.since(now - timedelta(minutes=1)))) == 3
    assert not list(ledger.since(now + timedelta(minutes=1)))
    old = json.loads(ledger.path.read_bytes().splitlines()[0]) | {
        "time": "2020-01-01T00:00:00+00:00"
    }
    ledger.path.write_bytes(json.dumps(old).encode() + b"\n" + ledger.path.read_bytes())
    assert len(list(ledger.since(now - timedelta(days=1)))) == 3
