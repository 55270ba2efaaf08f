"""Lineage of a model: the experiments that trained its weights and the sites that took part. It is
stored in the metadata of the model's file.

A model that was fine-tuned from an earlier one inherits its lineage. So a site can check whether
any of its patients may have trained the weights that are to be tested on them.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError

from .experiment import ExperimentError
from .names import Name
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
    """Read the lineage from a weights file's metadata; empty for weights of another origin.

    Raises ExperimentError for a lineage that cannot be parsed: it would be unknown which patients
    the weights were trained on.
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
