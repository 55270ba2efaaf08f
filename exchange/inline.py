"""Models with nested fields that are written flat: nested in Python, one level in JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer, model_validator


@dataclass(frozen=True)
class Inline:
    """Marks a field of an `InlineModel` whose value is written without a level of its own.

    In JSON each field of the value is a field of the outer model. Its name there is `prefix` and
    its own name, unless `names` (name in the value -> name in JSON) gives another.
    """

    prefix: str = ""
    names: Mapping[str, str] = field(default_factory=dict)

    def key(self, name: str) -> str:
        """Name in JSON of a field of the value."""
        return self.names.get(name, f"{self.prefix}{name}")


class InlineModel(BaseModel):
    """A model with `Inline` fields: their values are flattened when it is written, and nested again
    when it is read.

    Raises
    ------
    TypeError
        When the class is made, if two fields would have the same name in JSON.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse two fields of one name in JSON, of which one would overwrite the other."""
        super().__pydantic_init_subclass__(**kwargs)
        owners = dict.fromkeys(cls.model_fields, cls.__name__)
        for name, group, mark in cls._groups():
            for key in map(mark.key, group.model_fields):
                if key in owners:
                    raise TypeError(
                        f"{cls.__name__}.{name}: writes {key!r}, which is a field of "
                        f"{owners[key]} already; give the group a prefix or another name for it"
                    )
                owners[key] = f"{cls.__name__}.{name}"

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
            values = {inner: gathered.pop(key) for key, inner in keys.items() if key in gathered}
            if values:
                gathered[name] = values
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
