"""The base of all that is sent: typed, closed, without a place for anything unforeseen."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal."""


class Wire(BaseModel):
    """A message or a part of one: immutable; an unknown field or a non-finite number is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
