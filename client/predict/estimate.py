"""Estimates of an exported model for files of this hospital. They never leave it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedrad.client.images import Reading
from fedrad.client.images.pictures import read_pictures
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import ExperimentError
from fedrad.exchange.lineage import Lineage, read_lineage
from fedrad.models.network import ResNet
from fedrad.models.record import ModelRecord, load_model
from fedrad.models.settings import READING_CHAIN
from fedrad.models.training import features
from fedrad.models.typicality import LEVEL, Typicality
from fedrad.models.weight_files import WeightsError

from .cohort_reference import CohortReference, cohort_reference

CHUNK = 256
"""Number of files whose pictures are in memory at once."""


@dataclass(frozen=True)
class OutcomeEstimate:
    """The estimate for one outcome of one file."""

    logit: float
    """Raw logit."""
    probability: float | None
    """Calibrated probability; None if the model is not calibrated."""
    above_threshold: bool
    """Whether the logit reaches the model's threshold."""


@dataclass(frozen=True)
class Prediction:
    """All estimates for one file."""

    file: str
    """Name of the file as the user gave it."""
    reading: Reading
    estimates: Mapping[str, OutcomeEstimate]
    """Outcome -> estimate; empty if the file cannot be used."""
    as_far: float | None = None
    """Share of the cohort's held-out images that are at least as far from its reference images as
    this one; None if not checked."""

    @property
    def unlike(self) -> bool:
        """Whether the image is unlike those of the cohort."""
        return self.as_far is not None and self.as_far <= LEVEL


@dataclass(frozen=True)
class ExportedModel:
    """An exported model. The calibration in its record is for the prevalence in use."""

    network: ResNet
    record: ModelRecord
    lineage: Lineage

    @property
    def prevalences(self) -> dict[str, float | None]:
        """Outcome -> prevalence for which its probabilities hold; None if not calibrated."""
        return {o: c.prevalence if c else None for o, c in self.record.calibration.items()}


def open_model(file: Path) -> ExportedModel:
    """Open an exported model, for the prevalences in its record.

    Raises SiteProblem if the file is no exported model, or was trained with another version of the
    reading chain.
    """
    try:
        network, record, metadata = load_model(file)
        lineage = read_lineage(metadata)
    except (WeightsError, ExperimentError) as error:
        raise SiteProblem("weights", str(error)) from error
    if record.reading_chain != READING_CHAIN:
        raise SiteProblem(
            "weights",
            f"{file.name}: was trained with version {record.reading_chain} of the "
            f"reading chain, this fedrad has {READING_CHAIN} and would show it other pictures: "
            f"install fedrad {record.fedrad}",
        )
    return ExportedModel(network, record, lineage)


def at_prevalence(model: ExportedModel, prevalences: Mapping[str, float]) -> ExportedModel:
    """The model for patients with other prevalences.

    `prevalences`: outcome -> prevalence, in (0, 1). Other outcomes keep theirs. Raises SiteProblem
    for an invalid prevalence, and for an outcome that is unknown or not calibrated.
    """
    calibration = dict(model.record.calibration)
    for outcome, value in prevalences.items():
        given = f"prevalence {outcome}={value:g}"
        if outcome not in calibration:
            raise SiteProblem(
                "outcome", f"{given}: the outcomes are {', '.join(model.record.outputs)}"
            )
        known = calibration[outcome]
        if known is None:
            raise SiteProblem(
                "outcome",
                f"{given}: {outcome} is not calibrated, so its logits are "
                "no probabilities at any prevalence: leave it out",
            )
        try:
            calibration[outcome] = known.at_prevalence(value)
        except ValueError:
            raise SiteProblem(
                "outcome", f"{given}: a number between 0 and 1, both excluded"
            ) from None
    return replace(model, record=model.record.model_copy(update={"calibration": calibration}))


def predict(
    model: ExportedModel, files: Sequence[str], cohort: Site | None = None
) -> tuple[list[Prediction], CohortReference | None]:
    """Estimate the outcomes for files, which are read by the same chain as cohorts.

    Parameters
    ----------
    model
        The exported model, for the prevalences in use.
    files
        DICOM, PNG or JPEG files.
    cohort
        The site whose images the new ones are compared with; None for no comparison.

    Returns
    -------
    tuple
        One prediction for each file, in their order, and the reference for the comparison. A file
        that cannot be used has no estimates, and its reading has the reason.

    Raises
    ------
    SiteProblem
        As `cohort_reference` does.
    """
    device = torch.device("cpu")
    settings, reference = model.record.model.input, None
    if cohort is not None:
        reference = cohort_reference(cohort, model.network, settings, model.lineage, device)
    predictions = list[Prediction]()
    for start in range(0, len(files), CHUNK):
        chunk = files[start : start + CHUNK]
        readings, pictures = read_pictures(chunk, settings)
        rows = sorted(pictures)
        images = np.zeros((len(rows), settings.size, settings.size), np.float16)
        for image, row in zip(images, rows, strict=True):
            image[:] = pictures[row]
        image_features = features(model.network, images, device=device)
        estimates = dict(zip(rows, _estimates(model, image_features), strict=True))
        far = dict(zip(rows, _as_far(reference, image_features), strict=True))
        predictions += [
            Prediction(file, readings[k], estimates.get(k, {}), far.get(k))
            for k, file in enumerate(chunk)
        ]
    return predictions, reference


@torch.no_grad()
def _estimates(
    model: ExportedModel, image_features: NDArray[np.float32]
) -> list[dict[str, OutcomeEstimate]]:
    record = model.record
    logits = model.network.fc(torch.from_numpy(image_features)).double().numpy()
    return [
        {
            outcome: OutcomeEstimate(
                logit=float(z),
                probability=float(c.probabilities(z)) if c else None,
                above_threshold=bool(z >= record.thresholds[outcome].logit),
            )
            for outcome, z in zip(record.outputs, row, strict=True)
            for c in [record.calibration[outcome]]
        }
        for row in logits
    ]


def _as_far(
    reference: CohortReference | None, image_features: NDArray[np.float32]
) -> list[float | None]:
    if reference is None:
        return [None] * len(image_features)
    typicality: Typicality = reference.typicality
    return [float(share) for share in typicality.p_values(image_features)]
