"""The record of an exported model: its input, its outputs, and the meaning of its figures.

`fedrad export` writes it into the metadata of `model.safetensors`, as JSON under `record`, so that
the file alone is enough to use the model as intended.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from .calibration import Calibration
from .network import ResNet
from .settings import READING_CHAIN, VALUE_RANGE, ModelSettings, Settings
from .weight_files import WeightsError, read_safetensors
from .weights import load_tensors

RECORD = "record"
"""Key of the metadata."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Threshold(Settings):
    """Raw logit from which on an outcome counts as present."""

    logit: float
    chosen_on: Literal["validation", "default"]
    """"default" is a logit of 0, used if the sites' validation patients allowed no choice."""


class ModelRecord(Settings):
    """What a user of the weights must know; `exchange.lineage` holds the lineage."""

    format: Literal[1] = 1
    name: str
    """Name of the experiment that made the model."""
    experiment: Sha256
    """Identity of that experiment."""
    model: ModelSettings
    """Network and input: size, fit, region. `weights` and `sha256` are what it started from."""
    reading_chain: int = READING_CHAIN
    """Version of the reading chain, from a file to the input."""
    value_range: tuple[float, float] = VALUE_RANGE
    """Values of black and white in the input, (N, 1, size, size) float32."""
    outputs: Annotated[tuple[str, ...], Field(min_length=1)]
    """Outcomes, in the order of the logits (N, outputs)."""
    thresholds: dict[str, Threshold]
    calibration: dict[str, Calibration | None]
    """Raw to calibrated logits, and the prevalence that they hold for. None if the validation
    patients whose figures sites could share lacked a class."""
    batchnorm: Literal["shared", "frozen", "local"]
    """With "local", every site trained its own normalisation, and this file holds that of the base
    weights."""
    base_sha256: Sha256
    """Digest of the backbone of the base weights."""
    trained_sha256: Sha256
    """SHA-256 of the experiment's own model file, as in its summary."""
    fedrad: str
    """Version of fedrad that made the model."""
    use: str = "research use only; not a medical device"

    @model_validator(mode="after")
    def _covers_every_output(self) -> "ModelRecord":
        for field in ("thresholds", "calibration"):
            if set(getattr(self, field)) != set(self.outputs):
                raise ValueError(f"{field}: must speak of each of {', '.join(self.outputs)}")
        return self

    def to_metadata(self) -> dict[str, str]:
        """The record as metadata of a model file."""
        return {RECORD: self.model_dump_json()}

    def network(self, tensors: Mapping[str, Tensor], file: str) -> ResNet:
        """Build the network with these tensors, for evaluation. Raises WeightsError if their shapes
        differ; `file` is named in the error."""
        network = ResNet(self.model, len(self.outputs))
        load_tensors(network, tensors, file)
        network.eval()
        return network


def read_record(metadata: Mapping[str, str], file: str) -> ModelRecord:
    """Read the record of a model file. Raises WeightsError if there is none or it is garbled."""
    if RECORD not in metadata:
        raise WeightsError(
            f"{file} does not say how radiographs become its input: give model.safetensors of a "
            "folder that `fedrad export` wrote"
        )
    try:
        return ModelRecord.model_validate_json(metadata[RECORD])
    except ValidationError as error:
        faults = "; ".join(
            ": ".join([*map(str, e["loc"]), e["msg"].removeprefix("Value error, ")])
            for e in error.errors()
        )
        raise WeightsError(
            f"{file}: what it says of itself is garbled ({faults}): export the model again, with "
            "the fedrad that reads it"
        ) from error


def load_model(path: Path) -> tuple[ResNet, ModelRecord, dict[str, str]]:
    """Load an exported model: network for evaluation, record, metadata. Raises WeightsError."""
    tensors, metadata = read_safetensors(path)
    record = read_record(metadata, path.name)
    return record.network(tensors, path.name), record, metadata
