"""Messages have typed fields, no free text and no unknown fields."""

import inspect
import io
import json
import types
import typing
from typing import Annotated

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import BaseModel, Field, StringConstraints, ValidationError
from pydantic.fields import FieldInfo
from support.readiness import readiness_with

from fedrad.exchange import messages, reasons
from fedrad.exchange.messages import (
    MessageError,
    Readiness,
    Refusal,
    Release,
    RoundReply,
    ScoreReply,
    from_record,
    reply_from_record,
    to_record,
)
from fedrad.exchange.wire import Wire


def unbounded(model: type[BaseModel], seen: set[type]) -> list[str]:
    """Places of a message, and of its parts, that could hold any text, any number or any number of
    entries."""
    if model in seen:
        return []
    seen.add(model)
    return [
        f"{model.__name__}.{name}: {fault}"
        for name, field in model.model_fields.items()
        for fault in faults(field.annotation, field.metadata, seen)
    ]


def faults(annotation: object, limits: typing.Sequence[object], seen: set[type]) -> list[str]:
    flat = [m for one in limits for m in (one.metadata if isinstance(one, FieldInfo) else [one])]
    given = {name for limit in flat for name, value in vars_of(limit) if value is not None}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return faults(arguments[0], [*arguments[1:], *limits], seen)
    if origin is typing.Literal or annotation in (type(None), bool):
        return []
    if origin in (typing.Union, types.UnionType):
        return [fault for a in arguments for fault in faults(a, limits, seen)]
    if annotation is str:
        return [] if "pattern" in given else ["text"]
    if annotation in (int, float):
        ranged = given & {"ge", "gt"} and given & {"le", "lt"}
        return [] if ranged else [f"{annotation.__name__} without a range"]
    if origin in (list, dict):
        length = [] if "max_length" in given else [f"{origin.__name__} of any length"]
        return length + [fault for a in arguments for fault in faults(a, [], seen)]
    assert inspect.isclass(annotation), annotation
    assert issubclass(annotation, Wire), annotation
    return unbounded(annotation, seen)


def vars_of(limit: object) -> list[tuple[str, object]]:
    names = ("pattern", "ge", "gt", "le", "lt", "max_length")
    return [(name, getattr(limit, name, None)) for name in names]


@pytest.mark.parametrize(
    "message",
    [*typing.get_args(messages.Request), *typing.get_args(messages.Reply)],
    ids=lambda message: message.__name__,
)
def test_every_text_has_a_pattern_every_number_a_range_and_every_list_a_length(message):
    assert unbounded(message, set()) == []


def test_what_has_no_bounds_would_be_found():
    class Loose(Wire):
        text: str | None
        number: Annotated[int, Field(ge=0)]
        more: list[Annotated[float, Field(ge=0, le=1)]]
        inner: dict[Annotated[str, StringConstraints(pattern="^a$")], int] = Field(max_length=3)

    assert unbounded(Loose, set()) == [
        "Loose.text: text",
        "Loose.number: int without a range",
        "Loose.more: list of any length",
        "Loose.inner: int without a range",
    ]


NAME = "\x1b]0;owned\x07\x1b[2J" + 2**21 * "A"
"""Two megabytes that clear a terminal and rename its window."""


@pytest.mark.parametrize(
    "odd",
    [
        {"site": NAME},
        {"fedrad": NAME},
        {NAME: 1},
        {"units": {"train": {NAME: {"positives": 1, "negatives": 1}}}},
        {"units": {NAME: {}}},
        {"kind": NAME},
        {"units": {"train": {f"\x1b[31m{n}": 1 for n in range(10**4)}}},
    ],
)
def test_an_error_repeats_nothing_that_was_received(odd):
    right = readiness_with().model_dump()
    record = RecordDict({"message": ConfigRecord({"json": json.dumps(right | odd)})})
    with pytest.raises(MessageError) as error:
        from_record(record, Readiness)
    assert len(str(error.value)) < 600
    assert str(error.value).isprintable()
    assert "AAA" not in str(error.value)
    assert "owned" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "absurd"),
    [
        ("patients", 10**400),
        ("patients", -1),
        ("images", 10**12),
        ("steps", 10**400),
        ("loss", 1e300),
        ("loss", -0.5),
        ("loss", float("nan")),
        ("seconds", -1.0),
        ("seconds", 1e300),
        ("monitoring", {"label": {"auroc": 7.0}}),
        ("monitoring", {"label": {"auroc": float("nan")}}),
        ("monitoring", {f"label {n}": {} for n in range(1000)}),
    ],
)
def test_a_number_that_cannot_be_is_refused(field, absurd):
    right = RoundReply(
        manifest=None, patients=1, images=1, loss=0.5, steps=1, seconds=1, monitoring={}
    ).model_dump()
    record = RecordDict({"message": ConfigRecord({"json": json.dumps(right | {field: absurd})})})
    with pytest.raises(MessageError, match=field if np.isscalar(absurd) else "received no valid"):
        from_record(record, RoundReply)


def test_a_message_of_any_length_is_not_read():
    record = RecordDict({"message": ConfigRecord({"json": " " * (messages.LARGEST_MESSAGE + 1)})})
    with pytest.raises(MessageError, match="more than 33,554,432 characters"):
        from_record(record, Refusal)


@pytest.mark.parametrize("array", [np.zeros((3, 2), np.uint8), np.zeros(3, [("evil", "u1")])])
def test_an_array_that_is_not_a_row_of_bytes_is_refused(array):
    record = to_record(Refusal(reason="cohort"))
    honest = Array(np.zeros(3, np.uint8))
    record["packed"] = ArrayRecord({"flat": Array("uint8", (3,), honest.stype, npy(array))})
    with pytest.raises(MessageError, match=r"^packed array is not one of bytes$"):
        from_record(record, Refusal)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_every_message_refuses_unknown_fields():
    for _, kind in inspect.getmembers(messages, inspect.isclass):
        if issubclass(kind, Wire):
            assert kind.model_config["extra"] == "forbid"
    with pytest.raises(ValidationError):
        Refusal(reason="cohort", detail="/home/canary")


def test_a_reason_is_a_word_of_the_list():
    with pytest.raises(ValidationError):
        Refusal(reason="file /data/CANARY.dcm not found")
    assert set(reasons.REASONS) == set(typing.get_args(reasons.Reason))


def test_a_message_survives_the_record():
    flat = np.arange(5, dtype=np.uint8)
    message, received = from_record(to_record(Refusal(reason="cohort"), flat), Refusal)
    assert message == Refusal(reason="cohort")
    np.testing.assert_array_equal(received, flat)


@pytest.mark.parametrize(
    "record",
    [
        RecordDict(),
        RecordDict({"message": ConfigRecord({"text": "x"})}),
        RecordDict({"message": ConfigRecord({"json": "{"})}),
        RecordDict({"message": ConfigRecord({"json": '{"kind": "release", "more": 1}'})}),
        RecordDict(
            {
                "message": ConfigRecord(
                    {"json": '{"kind": "release", "part": "test", "scores": []}'}
                ),
                "packed": ArrayRecord({"flat": Array(np.zeros(3)), "x": Array(np.zeros(3))}),
            }
        ),
        RecordDict(
            {
                "message": ConfigRecord(
                    {"json": '{"kind": "release", "part": "test", "scores": []}'}
                ),
                "packed": ArrayRecord({"flat": Array(np.zeros(3))}),
            }
        ),
    ],
)
def test_a_record_that_is_no_message_is_refused_without_its_content(record):
    with pytest.raises(MessageError) as error:
        from_record(record, Release)
    assert "more: 1" not in str(error.value)


@pytest.mark.parametrize("reader", [from_record, reply_from_record])
def test_another_kind_than_expected_is_named_beside_the_expected(reader):
    with pytest.raises(MessageError, match=r"^expected 'round', received 'scored'$"):
        reader(to_record(ScoreReply()), RoundReply)


def test_the_word_refusal_in_other_fields_makes_no_refusal():
    """Only the field `kind` decides what a message is, not any other text in it."""
    odd = '{"kind":"scored","missing":null,"more":{"kind":"refusal","reason":"cohort"}}'
    record = RecordDict({"message": ConfigRecord({"json": odd})})
    with pytest.raises(MessageError, match="expected 'scored', received no valid message"):
        reply_from_record(record, ScoreReply)


def test_an_unknown_kind_is_not_repeated_in_the_error():
    record = RecordDict({"message": ConfigRecord({"json": '{"kind": "CANARY"}'})})
    with pytest.raises(MessageError, match="union_tag_invalid") as error:
        reply_from_record(record, RoundReply)
    assert "CANARY" not in str(error.value)


def test_every_request_and_every_reply_has_its_message_type():
    types = [v for v in vars(messages).values() if isinstance(v, messages.MessageType)]
    assert {t.request for t in types} == set(typing.get_args(messages.Request))
    assert {t.reply for t in types} == set(typing.get_args(messages.Reply)) - {Refusal}
    assert len({t.name for t in types}) == len(types)


def test_a_refusal_is_understood_where_another_reply_was_expected():
    message, packed = reply_from_record(to_record(Refusal(reason="weights")), RoundReply)
    assert message == Refusal(reason="weights")
    assert packed is None
