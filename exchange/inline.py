"""Groups of figures that are one part in Python and stand in a file beside its other fields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer, model_validator


@dataclass(frozen=True)
class Inline:
    """Marks a field of a `Flat` model: the fields of its value are written beside the model's own.

    Each is called as in the group with `prefix` before it, or as `names` has it.
    """

    prefix: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    def key(self, name: str) -> str:
        """Name in the file of a field of the group."""
        return self.names.get(name, f"{self.prefix}{name}")


class InlineModel(BaseModel):
    """A model whose `Inline` fields have no level of their own in JSON: what was written flat is
    gathered when it is read, and spread when it is written."""

    @classmethod
    def _groups(cls) -> Iterator[tuple[str, type[BaseModel], Inline]]:
        for name, of_model in cls.model_fields.items():
            for mark in of_model.metadata:
                group = of_model.annotation
                if isinstance(mark, Inline) and isinstance(group, type):
                    yield name, group, mark

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        gathered = dict(data)
        for name, group, mark in cls._groups():
            keys = {mark.key(inner): inner for inner in group.model_fields}
            found = {inner: gathered.pop(key) for key, inner in keys.items() if key in gathered}
            if found:
                gathered[name] = found
        return gathered

    @model_serializer(mode="wrap")
    def _spread(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        marks = {name: mark for name, _, mark in self._groups()}
        written: dict[str, Any] = {}
        for name, value in write(self).items():
            if name in marks:
                written |= {marks[name].key(inner): v for inner, v in value.items()}
            else:
                written[name] = value
        return written
