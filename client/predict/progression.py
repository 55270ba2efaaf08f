"""Simulated progressions of a hospital's own images. They never leave it."""

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
from fedrad.system.files import write_whole
from fedrad.system.folders import make_folder

from .estimate import ExportedModel, open_model
from .filmstrip import NOTE, EditSequence, write_confidence, write_filmstrip

CHUNK = 64
"""Number of images whose steps are in memory at once."""


@dataclass(frozen=True)
class ProgressionRequest:
    """A checked request for simulated progressions."""

    generator: OpenedGenerator
    towards: str
    """The outcome to simulate."""
    settings: ProgressionSettings
    condition: NDArray[np.float64]
    """The outcome as a condition of the generator, (K,)."""
    classifier: ExportedModel | None = None
    """A classifier that scores every step."""
    mask_file: Path | None = None
    """A picture of the region to edit, which replaces `settings.mask`."""


def prepare_progression(
    generator: Path,
    towards: str,
    settings: ProgressionSettings,
    *,
    classifier: Path | None = None,
    mask_file: Path | None = None,
) -> ProgressionRequest:
    """Check everything that can be checked before an image is read.

    Parameters
    ----------
    generator
        File of a generator, or folder of the MONAI model zoo.
    towards
        The outcome to simulate.
    settings
        Steps, strength, guidance and region.
    classifier
        File of an exported model that scores every step.
    mask_file
        PNG of the region to edit, white inside.

    Raises
    ------
    SiteProblem
        If there is no generator, if it was not trained on both classes of the outcome, or if the
        classifier has other pictures or lacks the outcome.
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
    request: ProgressionRequest, files: Sequence[str], out: Path, device: torch.device
) -> list[tuple[str, str]]:
    """Simulate the progression of each file and write the pictures into a folder.

    For each file these are a filmstrip, an animation, a difference map and the single steps. The
    folder also gets `confidence.csv` and `simulation.json`.

    Parameters
    ----------
    request
        From `prepare_progression`.
    files
        DICOM, PNG or JPEG files.
    out
        The folder, which is created if missing.
    device
        Where to compute.

    Returns
    -------
    list
        Files that could not be used, with the reason.

    Raises
    ------
    SiteProblem
        If the mask has another shape, or there is too little memory.
    """
    generator, settings = request.generator, request.settings
    make_folder(out)
    sequences: dict[str, EditSequence] = {}
    unusable: list[tuple[str, str]] = []
    for start in range(0, len(files), CHUNK):
        chunk = files[start : start + CHUNK]
        readings, pictures = read_pictures(chunk, generator.input)
        masks = {row: _mask(request, picture) for row, picture in pictures.items()}
        unusable += _unusable(chunk, readings, masks, settings)
        rows = [row for row in sorted(pictures) if masks[row] is not None]
        if not rows:
            continue
        try:
            steps = simulate_progression(
                generator.generator,
                np.stack([pictures[row] for row in rows]),
                request.condition,
                settings,
                device=device,
                mask=np.stack([mask for row in rows if (mask := masks[row]) is not None]),
            )
        except TooLittleMemoryError as error:
            raise SiteProblem("device", str(error)) from error
        for row, of_image in zip(rows, steps, strict=True):
            stem = f"{start + row + 1:03}"
            sequences[stem] = _edit_sequence(request, chunk[row], of_image, device)
            write_filmstrip(sequences[stem], out, stem)
    write_confidence(sequences, out / "confidence.csv")
    _write_settings(request, out)
    return unusable


def _edit_sequence(
    request: ProgressionRequest, file: str, steps: NDArray[np.float32], device: torch.device
) -> EditSequence:
    model = request.classifier
    if model is None:
        return EditSequence(file, steps, request.towards)
    k = model.record.outputs.index(request.towards)
    logits = score(model.network, steps.astype(np.float16), device=device)[:, k]
    calibration = model.record.calibration[request.towards]
    probabilities = None if calibration is None else calibration.probabilities(logits)
    return EditSequence(file, steps, request.towards, logits, probabilities)


def _mask(request: ProgressionRequest, picture: NDArray[np.float16]) -> SoftMask | None:
    """The region of a picture, (S, S); None if no lungs are found."""
    if request.mask_file is not None:
        return read_mask(request.mask_file, len(picture))
    return region_mask(picture, request.settings.mask)


def read_mask(file: Path, side: int) -> SoftMask:
    """A mask (side, side) drawn by hand: a grey PNG, white inside. Raises SiteProblem if it has
    another shape."""
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
    unusable = [(f, r.unusable) for f, r in zip(files, readings, strict=True) if r.unusable]
    unusable += [
        (files[row], f'no lungs found by mask = "{settings.mask}": give a mask, or --mask none')
        for row, mask in masks.items()
        if mask is None
    ]
    return unusable


def _write_settings(request: ProgressionRequest, out: Path) -> None:
    """Record how the pictures were made."""
    about = {
        "simulated": NOTE,
        "generator": request.generator.name,
        "towards": request.towards,
        "settings": request.settings.model_dump(),
        "mask_file": None if request.mask_file is None else file_sha256(request.mask_file),
        "lineage": request.generator.metadata.get("lineage"),
    }
    write_whole(out / "simulation.json", json.dumps(about, indent=1) + "\n")


def _words(input_: InputSettings) -> str:
    return f"{input_.size} pixels, fit {input_.fit!r}, region {input_.region!r}"
