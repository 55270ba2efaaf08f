"""Who trained a model: the experiments behind its weights and their sites, in its file's metadata.

A model that was fine-tuned from an earlier one inherits the earlier one's lineage, so that a site
can tell whether any of its patients may have trained the weights it is asked to be tested with.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError

from .experiment import ExperimentError, Name
from .wire import Wire

LINEAGE = "lineage"
"""Key of the metadata: a JSON list, oldest ancestor first."""


class Ancestor(Wire):
    """One experiment that trained the weights: its identity (`Experiment.identity`) and the sites
    whose updates went into them."""

    experiment: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    sites: tuple[Name, ...]


Lineage = tuple[Ancestor, ...]
_LINEAGE: TypeAdapter[Lineage] = TypeAdapter(Lineage)


def read_lineage(metadata: Mapping[str, str]) -> Lineage:
    """The lineage that a weights file states; empty for weights of another origin.

    Raises ExperimentError for a statement that is none: nobody could tell who was trained on.
    """
    try:
        return _LINEAGE.validate_json(metadata.get(LINEAGE, "[]"))
    except ValidationError as error:
        faults = "; ".join(e["msg"] for e in error.errors())
        raise ExperimentError(
            f"the base weights' lineage is garbled ({faults}), so nobody can tell on whose "
            "patients they were trained: take the file again from the experiment that made it"
        ) from error


def write_lineage(lineage: Lineage) -> dict[str, str]:
    """A lineage as metadata of a model's file."""
    return {LINEAGE: _LINEAGE.dump_json(lineage).decode()}
