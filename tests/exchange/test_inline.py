"""Groups of figures that have no level of their own in JSON."""

import json
from typing import Annotated

import pytest
from pydantic import BaseModel, ValidationError

from fedrad.exchange.figures import Probabilities, ProbabilityFigures, RankFigures, Scores
from fedrad.exchange.inline import Inline, InlineModel


class Size(BaseModel):
    width: int = 0
    height: int = 0


class Box(InlineModel):
    name: str
    outside: Annotated[Size, Inline("outer_")] = Size()
    inside: Annotated[Size, Inline(names={"height": "depth"})] = Size()
    weight: float = 1.0


FLAT = {"name": "a", "outer_width": 3, "outer_height": 4, "width": 1, "depth": 2, "weight": 0.5}


def test_a_group_is_written_beside_the_other_fields_in_their_order_and_read_back():
    box = Box(name="a", outside=Size(width=3, height=4), inside=Size(width=1, height=2), weight=0.5)
    assert list(box.model_dump().items()) == list(FLAT.items())
    assert Box.model_validate(FLAT) == box
    assert Box.model_validate_json(json.dumps(FLAT)) == box
    assert Box.model_validate({"name": "a", "depth": 2}).inside == Size(height=2)


def test_defaults_are_left_out_on_request():
    assert Box(name="a", inside=Size(width=1)).model_dump(exclude_defaults=True) == {
        "name": "a",
        "width": 1,
    }


@pytest.mark.parametrize(
    ("mark", "owner"),
    [
        (Inline(names={"height": "weight"}), "Larger"),
        (Inline("outer_"), "Larger.outside"),
        (Inline(names={"height": "inside"}), "Larger"),
        (Inline(names={"height": "width"}), "Larger.inside"),
    ],
)
def test_two_fields_of_one_name_are_refused_when_the_class_is_made(mark, owner):
    """Of a field, a field of another group, the group itself, and another field of the group."""
    with pytest.raises(TypeError, match=rf"^Larger\.inside: writes '\w+', .* of {owner} already"):

        class Larger(Box):
            inside: Annotated[Size, mark] = Size()


def test_a_message_with_inline_fields_refuses_unknown_fields():
    sent = Scores(model="global", outcome="y", ranks=RankFigures(average_precision=0.5))
    assert json.loads(sent.model_dump_json())["average_precision"] == 0.5
    assert Scores.model_validate_json(sent.model_dump_json()) == sent
    about = {"model": "global", "outcome": "y"}
    for wrong in ({"average_precision": 1.5}, {"path": "/data"}, {"ranks": {"path": "/data"}}):
        with pytest.raises(ValidationError):
            Scores.model_validate(about | wrong)
    with pytest.raises(ValidationError):
        Probabilities(by="site", exact=ProbabilityFigures(brier=float("nan")))
