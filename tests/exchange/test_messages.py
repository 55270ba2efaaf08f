"""Messages have typed fields, no free text and no unknown fields."""

import inspect
import typing

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fedrad.exchange import messages, reasons
from fedrad.exchange.messages import (
    BaselineReply,
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

REPLIES = (Readiness, RoundReply, BaselineReply, ScoreReply, Release, Refusal)


def text_fields(model: type[Wire], seen: set[type]) -> list[str]:
    """Fields of a message, and of its parts, that could hold any text."""
    if model in seen:
        return []
    seen.add(model)
    fields = []
    for name, field in model.model_fields.items():
        fields += [f"{model.__name__}.{name}"] if free(field.annotation, field) else []
        for part in parts_of(field.annotation):
            fields += text_fields(part, seen)
    return fields


def free(annotation: object, field: FieldInfo | None = None) -> bool:
    if annotation is str:
        return not (field and field.metadata)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return False
    if origin is typing.Literal:
        return False
    return any(free(a) for a in typing.get_args(annotation))


def parts_of(annotation: object) -> list[type[Wire]]:
    if inspect.isclass(annotation) and issubclass(annotation, Wire):
        return [annotation]
    return [p for a in typing.get_args(annotation) for p in parts_of(a)]


def test_no_reply_of_a_site_has_a_place_for_free_text():
    fields = [f for reply in REPLIES for f in text_fields(reply, set())]
    # The fields of a manifest are compared with those that the coordinator sent, and then dropped.
    assert set(fields) <= {"Manifest.names", "Manifest.base_sha256", "Manifest.sha256"}


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
