"""The base class of all messages and files that are sent: typed, without unknown fields."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal."""


class Wire(BaseModel):
    """A message or a part of one: immutable; unknown fields and non-finite numbers are refused.

    Every number of a message has a range, every text a pattern or a list of words, and every list a
    largest length: the other side may be hostile. A test goes over all fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
