"""Messages for settings that are not valid."""

from typing import Any, get_args, get_origin

from pydantic import ValidationError

from fedrad.models.settings import Settings

LONGEST = 1000
"""Most characters of a line."""
MOST_LINES = 50
"""Most faults that are named."""


def explain_validation_error(error: ValidationError, source: str, model: type[Settings]) -> str:
    """Turn a validation error into lines that name key, value and what is allowed.

    Parameters
    ----------
    error
        The error.
    source
        Name of the file, with which each line begins.
    model
        Class of the settings that were validated.
    """
    lines = []
    faults = error.errors(include_url=False)
    for fault in faults[:MOST_LINES]:
        key = ".".join(str(part) for part in fault["loc"]) or "(file)"
        if fault["type"] == "extra_forbidden":
            allowed = _keys_beside(model, fault["loc"])
            lines.append(f"{key}: unknown setting; known here: {', '.join(allowed)}")
        elif fault["type"] == "missing":
            lines.append(f"{key}: missing")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            given = "" if isinstance(fault["input"], dict) else f" = {fault['input']!r}"
            lines.append(f"{key}{given}: {message}")
    if len(faults) > MOST_LINES:
        lines.append(f"and {len(faults) - MOST_LINES} more")
    return "\n".join(f"{source}: {shown(line)}" for line in lines)


def shown(text: str) -> str:
    """A text that may have been sent by the other side, as one line of a log: without characters
    that cannot be printed, and not longer than `LONGEST`."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def _keys_beside(model: type[Settings], location: tuple[int | str, ...]) -> list[str]:
    fields: Any = model
    for part in location[:-1]:
        if get_origin(fields) is dict:  # name -> settings
            fields = get_args(fields)[1]
        else:
            fields = fields.model_fields[part].annotation
    return sorted(fields.model_fields)
