"""Simulated later steps of training images: made once at the site, kept there, sent to nobody."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedrad.client.images.lung_mask import region_mask
from fedrad.client.problems import SiteProblem
from fedrad.models.examples import Examples, LaterSteps
from fedrad.models.optimizer import TooLittleMemoryError
from fedrad.models.progression.generators import OpenedGenerator, open_generator
from fedrad.models.progression.iteration import simulate_progression
from fedrad.models.settings import InputSettings, ProgressionAugmentation
from fedrad.models.weight_files import WeightsError, find_weights_file
from fedrad.system.files import replacing

CHUNK = 32
"""Images edited between two looks at the disk."""


def generator_of(
    settings: ProgressionAugmentation, outcomes: list[str], input_: InputSettings
) -> OpenedGenerator:
    """The generator that a recipe names.

    Parameters
    ----------
    settings
        `recipe.progression`: the file and its hash.
    outcomes, input_
        Of the experiment: the generator must know these outcomes and make such pictures.

    Raises
    ------
    SiteProblem
        "weights": it is not here, is another file, or makes other pictures or outcomes.
    """
    try:
        opened = open_generator(
            find_weights_file(
                settings.generator, str(settings.sha256), "recipe.progression.generator"
            )
        )
        if opened.input != input_:
            raise WeightsError(
                f"{opened.name} makes pictures of {opened.input.size} pixels (fit "
                f"{opened.input.fit!r}, region {opened.input.region!r}), the experiment's [model] "
                f"asks for {input_.size} ({input_.fit!r}, {input_.region!r})"
            )
        for outcome in outcomes:
            opened.condition(outcome)
    except WeightsError as error:
        raise SiteProblem("weights", str(error)) from error
    return opened


@dataclass(frozen=True)
class _Wanted:
    """What is to be made of one training image: towards which of its outcomes (K,) in {1, NaN}, and
    the labels (N, K) of the steps."""

    towards: NDArray[np.float64]
    labels: NDArray[np.float32]


@dataclass(frozen=True)
class SimulatedImages:
    """The simulated later steps of a site's training images.

    `folder`: where they are stored, by generator, settings and image, so that rounds, folds and
    experiments share them.
    """

    settings: ProgressionAugmentation
    generator: OpenedGenerator
    outcomes: list[str]
    folder: Path
    device: torch.device
    log: logging.Logger | logging.LoggerAdapter[logging.Logger]

    def of(self, examples: Examples) -> dict[int, LaterSteps]:
        """Row -> later steps of its image.

        An image with an outcome is taken further along all that it has. With `soft` above 0 an
        image without any is taken towards the first that it is known not to have. An image in
        which no lungs are seen has no steps. Raises SiteProblem("device") and ("storage").
        """
        wanted = {
            row: w for row, labels in enumerate(examples.labels) if (w := self._wanted(labels))
        }
        files = {row: self._file(examples.keys[row], w) for row, w in wanted.items()}
        missing = [row for row, file in files.items() if not file.is_file()]
        for start in range(0, len(missing), CHUNK):
            rows = missing[start : start + CHUNK]
            self._make(examples, {row: (wanted[row], files[row]) for row in rows})
            self.log.info("simulated progressions: %d of %d", start + len(rows), len(missing))
        later = {}
        for row, file in files.items():
            steps = np.load(file, mmap_mode="r")
            if len(steps):
                later[row] = LaterSteps(steps, wanted[row].labels)
        if left := len(files) - len(later):
            self.log.warning("%d images are not simulated: no lungs found in them", left)
        return later

    def _wanted(self, labels: NDArray[np.float32]) -> _Wanted | None:
        steps = np.repeat(labels[None], self.settings.images, axis=0)
        positive = labels == 1
        if positive.any():
            return _Wanted(np.where(positive, 1.0, np.nan), steps)
        negative = np.flatnonzero(labels == 0)
        if not self.settings.soft or not len(negative):
            return None
        towards = np.full(len(labels), np.nan)
        towards[negative[0]] = 1.0
        numbers = np.arange(1, self.settings.images + 1)
        steps[:, negative[0]] = self.settings.soft * numbers / self.settings.images
        return _Wanted(towards, steps)

    def _file(self, image: str, wanted: _Wanted) -> Path:
        edit = self.settings.model_dump_json(exclude={"probability", "soft", "generator", "batch"})
        made = sha256(f"{edit}:{self.outcomes}".encode()).hexdigest()[:32]
        towards = "".join("1" if value == 1 else "-" for value in wanted.towards)
        return self.folder / made / f"{image[:32]}{towards}.npy"

    def _make(self, examples: Examples, wanted: Mapping[int, tuple[_Wanted, Path]]) -> None:
        rows = list(wanted)
        pictures = examples.images[np.array(rows, np.int64)]
        masks = [region_mask(picture, self.settings.mask) for picture in pictures]
        there = [i for i, mask in enumerate(masks) if mask is not None]
        steps: NDArray[np.float32] = np.zeros((0, self.settings.images + 1, 0, 0), np.float32)
        if there:
            try:
                steps = simulate_progression(
                    self.generator.generator,
                    pictures[there],
                    np.stack([self._condition(wanted[rows[i]][0]) for i in there]),
                    self.settings,
                    device=self.device,
                    mask=np.stack([mask for mask in masks if mask is not None]),
                )
            except TooLittleMemoryError as error:
                raise SiteProblem("device", str(error)) from error
        made = dict(zip(there, steps[:, 1:].astype(np.float16), strict=True))
        for i, row in enumerate(rows):
            _save(wanted[row][1], made.get(i, np.zeros((0, 0, 0), np.float16)))

    def _condition(self, wanted: _Wanted) -> NDArray[np.float64]:
        """Towards the outcomes, in the generator's own order."""
        known = list(self.generator.known)
        condition = np.full(len(known), np.nan)
        for outcome, value in zip(self.outcomes, wanted.towards, strict=True):
            condition[known.index(outcome)] = value
        return condition


def _save(file: Path, steps: NDArray[np.float16]) -> None:
    """In one step, so that what is there is whole."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary, temporary.open("wb") as handle:
            np.save(handle, steps)
    except OSError as error:
        raise SiteProblem("storage", f"{file}: cannot be written ({error.strerror})") from error
