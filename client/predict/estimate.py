"""Estimates of an exported model for files of this hospital: for its own eyes, sent to nobody."""

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
"""Files whose pictures are in memory at once."""


@dataclass(frozen=True)
class Estimate:
    """Of one outcome: raw logit, calibrated probability (None: not calibrated), and whether the
    logit reaches the model's threshold."""

    logit: float
    probability: float | None
    above_threshold: bool


@dataclass(frozen=True)
class Prediction:
    """Of one file, named as it was given. `as_far`: share of the cohort's held-out images that are
    as far from its reference (None: not checked)."""

    file: str
    reading: Reading
    estimates: Mapping[str, Estimate]
    as_far: float | None = None

    @property
    def unlike(self) -> bool:
        """Whether the image is unlike the cohort's."""
        return self.as_far is not None and self.as_far <= LEVEL


@dataclass(frozen=True)
class Model:
    """An exported model. Its record's calibration is that of the local prevalence."""

    network: ResNet
    record: ModelRecord
    lineage: Lineage

    @property
    def prevalences(self) -> dict[str, float | None]:
        """Outcome -> prevalence for which probabilities are meant; None where not calibrated."""
        return {o: c.prevalence if c else None for o, c in self.record.calibration.items()}


def open_model(file: Path) -> Model:
    """An exported model, for patients of its record's prevalences.

    Raises SiteProblem: no exported model, or one of another reading chain than the installed one.
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
    return Model(network, record, lineage)


def at_prevalence(model: Model, given: Sequence[str]) -> Model:
    """The model for patients of other prevalences: each `given` is `OUTCOME=P`, or `P` where there
    is but one outcome. What is not given stays.

    Raises SiteProblem: a prevalence that is none, an outcome that is not there or not calibrated.
    """
    calibration = dict(model.record.calibration)
    for text in given:
        outcome, equals, value = text.rpartition("=")
        if not equals and len(calibration) == 1:
            outcome = model.record.outputs[0]
        if outcome not in calibration:
            raise SiteProblem(
                "outcome",
                f"--prevalence {text}: write OUTCOME=P with one of "
                f"{', '.join(model.record.outputs)}",
            )
        known = calibration[outcome]
        if known is None:
            raise SiteProblem(
                "outcome",
                f"--prevalence {text}: {outcome} is not calibrated, so its logits are "
                "no probabilities at any prevalence: leave it out",
            )
        try:
            calibration[outcome] = known.at_prevalence(float(value))
        except ValueError:
            raise SiteProblem(
                "outcome", f"--prevalence {text}: a number between 0 and 1, both excluded"
            ) from None
    return replace(model, record=model.record.model_copy(update={"calibration": calibration}))


def predict(
    model: Model, files: Sequence[str], cohort: Site | None = None
) -> tuple[list[Prediction], CohortReference | None]:
    """Estimates for files, in their order, read by the chain that read the cohorts.

    `cohort`: the site whose images new ones are compared with. A file that cannot be used has a
    reading that says why, and no estimates. Raises SiteProblem as `cohort_reference` does.
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
        found = features(model.network, images, device=device)
        estimates = dict(zip(rows, _estimates(model, found), strict=True))
        far = dict(zip(rows, _as_far(reference, found), strict=True))
        predictions += [
            Prediction(file, readings[k], estimates.get(k, {}), far.get(k))
            for k, file in enumerate(chunk)
        ]
    return predictions, reference


@torch.no_grad()
def _estimates(model: Model, found: NDArray[np.float32]) -> list[dict[str, Estimate]]:
    record = model.record
    logits = model.network.fc(torch.from_numpy(found)).double().numpy()
    return [
        {
            outcome: Estimate(
                logit=float(z),
                probability=float(c.probabilities(z)) if c else None,
                above_threshold=bool(z >= record.thresholds[outcome].logit),
            )
            for outcome, z in zip(record.outputs, row, strict=True)
            for c in [record.calibration[outcome]]
        }
        for row in logits
    ]


def _as_far(reference: CohortReference | None, found: NDArray[np.float32]) -> list[float | None]:
    if reference is None:
        return [None] * len(found)
    typicality: Typicality = reference.typicality
    return [float(share) for share in typicality.as_far(found)]
