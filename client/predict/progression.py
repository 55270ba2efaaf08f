"""A patient's own image edited towards an outcome: for this hospital's eyes, sent to nobody."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fedrad.client.images import Reading
from fedrad.client.images.lung_mask import SoftMask, region_mask
from fedrad.client.images.lungs import pspnet_weights_for
from fedrad.client.images.pictures import read_pictures
from fedrad.client.problems import SiteProblem
from fedrad.models.optimizer import TooLittleMemoryError
from fedrad.models.progression.generators import OpenedGenerator, open_generator
from fedrad.models.progression.iteration import simulate_progression
from fedrad.models.settings import InputSettings, ProgressionSettings
from fedrad.models.training import score
from fedrad.models.weight_files import WeightsError, file_sha256

from .estimate import Model, open_model
from .filmstrip import NOTE, EditSequence, write_confidence, write_filmstrip

CHUNK = 64
"""Images whose steps are in memory at once."""


@dataclass(frozen=True)
class ProgressionRequest:
    """What is asked: a generator, an outcome to go towards, perhaps a classifier to watch."""

    generator: OpenedGenerator
    towards: str
    settings: ProgressionSettings
    condition: NDArray[np.float64]
    classifier: Model | None = None
    mask_file: Path | None = None


def prepare_progression(
    generator: Path,
    towards: str,
    settings: ProgressionSettings,
    *,
    classifier: Path | None = None,
    mask_file: Path | None = None,
) -> ProgressionRequest:
    """Check all that can be checked before an image is read.

    Raises SiteProblem: no generator, an outcome that it was not trained on or in one class only, a
    classifier of other pictures or without the outcome.
    """
    try:
        opened = open_generator(generator)
        condition = opened.condition(towards)
    except WeightsError as error:
        raise SiteProblem("weights", str(error)) from error
    model = None if classifier is None else open_model(classifier)
    if model is not None:
        if model.record.model.input != opened.input:
            raise SiteProblem(
                "weights",
                f"--model {classifier}: looks at pictures of "
                f"{_words(model.record.model.input)}, the generator makes {_words(opened.input)}",
            )
        if towards not in model.record.outputs:
            raise SiteProblem(
                "outcome",
                f"--model {classifier}: knows {', '.join(model.record.outputs)}, not {towards!r}",
            )
    if settings.mask == "lungs-pspnet":
        pspnet_weights_for(InputSettings(region="lungs-pspnet"))
    return ProgressionRequest(opened, towards, settings, condition, model, mask_file)


def simulate_files(
    simulation: ProgressionRequest, files: Sequence[str], out: Path, device: torch.device
) -> list[tuple[str, str]]:
    """Write a filmstrip, an animation, a difference map and the steps of each file into `out`, with
    `confidence.csv` and `simulation.json`. Returns files that could not be used, with the reason.

    Raises SiteProblem: a mask of another shape, or too little memory.
    """
    generator, settings = simulation.generator, simulation.settings
    out.mkdir(parents=True, exist_ok=True)
    sequences: dict[str, EditSequence] = {}
    unusable: list[tuple[str, str]] = []
    for start in range(0, len(files), CHUNK):
        chunk = files[start : start + CHUNK]
        readings, pictures = read_pictures(chunk, generator.input)
        masks = {row: _mask(simulation, picture) for row, picture in pictures.items()}
        unusable += _unusable(chunk, readings, masks, settings)
        rows = [row for row in sorted(pictures) if masks[row] is not None]
        if not rows:
            continue
        try:
            steps = simulate_progression(
                generator.generator,
                np.stack([pictures[row] for row in rows]),
                simulation.condition,
                settings,
                device=device,
                mask=np.stack([mask for row in rows if (mask := masks[row]) is not None]),
            )
        except TooLittleMemoryError as error:
            raise SiteProblem("device", str(error)) from error
        for row, of_image in zip(rows, steps, strict=True):
            stem = f"{start + row + 1:03}"
            sequences[stem] = _film(simulation, chunk[row], of_image, device)
            write_filmstrip(sequences[stem], out, stem)
    write_confidence(sequences, out / "confidence.csv")
    _write_settings(simulation, out)
    return unusable


def _film(
    simulation: ProgressionRequest, file: str, steps: NDArray[np.float32], device: torch.device
) -> EditSequence:
    model = simulation.classifier
    if model is None:
        return EditSequence(file, steps, simulation.towards)
    k = model.record.outputs.index(simulation.towards)
    logits = score(model.network, steps.astype(np.float16), device=device)[:, k]
    calibration = model.record.calibration[simulation.towards]
    probabilities = None if calibration is None else calibration.probabilities(logits)
    return EditSequence(file, steps, simulation.towards, logits, probabilities)


def _mask(simulation: ProgressionRequest, picture: NDArray[np.float16]) -> SoftMask | None:
    """The region of a picture, (S, S); None where it cannot be found."""
    if simulation.mask_file is not None:
        return read_mask(simulation.mask_file, len(picture))
    return region_mask(picture, simulation.settings.mask)


def read_mask(file: Path, side: int) -> SoftMask:
    """A mask drawn by hand: a grey PNG of the generator's picture, white inside. Raises SiteProblem
    for one of another shape."""
    try:
        with Image.open(file) as image:
            mask = np.asarray(image.convert("L"), np.float32) / np.float32(255)
    except (OSError, UnidentifiedImageError) as error:
        raise SiteProblem("cohort", f"--mask {file}: cannot be read as a picture") from error
    if mask.shape != (side, side):
        raise SiteProblem(
            "cohort",
            f"--mask {file}: is {mask.shape[1]}×{mask.shape[0]} pixels, the generator's "
            f"pictures are {side}×{side}; draw it on a step-00.png of --mask none, cut to "
            "the picture and scaled",
        )
    return mask


def _unusable(
    files: Sequence[str],
    readings: Sequence[Reading],
    masks: dict[int, SoftMask | None],
    settings: ProgressionSettings,
) -> list[tuple[str, str]]:
    found = [(f, r.unusable) for f, r in zip(files, readings, strict=True) if r.unusable]
    found += [
        (files[row], f'no lungs found by mask = "{settings.mask}": give a mask, or --mask none')
        for row, mask in masks.items()
        if mask is None
    ]
    return found


def _write_settings(simulation: ProgressionRequest, out: Path) -> None:
    """What made the pictures, for whoever finds them later."""
    about = {
        "simulated": NOTE,
        "generator": simulation.generator.name,
        "towards": simulation.towards,
        "settings": simulation.settings.model_dump(),
        "mask_file": None if simulation.mask_file is None else file_sha256(simulation.mask_file),
        "lineage": simulation.generator.metadata.get("lineage"),
    }
    (out / "simulation.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _words(input_: InputSettings) -> str:
    return f"{input_.size} pixels, fit {input_.fit!r}, region {input_.region!r}"
