"""The base of all that is sent: typed, closed, without a place for anything unforeseen."""

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """A message or a part of one: immutable; an unknown field or a non-finite number is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
