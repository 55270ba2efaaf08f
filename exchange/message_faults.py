"""What the error about an invalid message says: places and types of its faults, and nothing of it.

Whatever the sender chose, keys included, could be text for the reader of a log.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import get_args

from pydantic import BaseModel, ValidationError

MOST_FAULTS = 5
"""Faults that an error names."""


def first_faults(error: ValidationError, words: Collection[str]) -> str:
    """Place and type of the first faults. A key that is not among `words` was chosen by the sender:
    it is shown as `?`."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        ".".join([*(_place(key, words) for key in e["loc"]), e["type"]])
        for e in details[:MOST_FAULTS]
    ]
    more = len(details) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def words_of(messages: Iterable[type[BaseModel]]) -> frozenset[str]:
    """Names of the fields of messages and of their parts, and of the kinds of messages."""
    seen: set[type[BaseModel]] = set()
    return frozenset().union(*(_words(message, seen) for message in messages))


def _place(key: int | str, words: Collection[str]) -> str:
    return str(key) if isinstance(key, int) or key in words else "?"


def _words(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[str]:
    if model in seen:
        return set()
    seen.add(model)
    words = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.default, str):
            words.add(field.default)
        for part in _parts(field.annotation):
            words |= _words(part, seen)
    return words


def _parts(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)
