"""Simulated later disease steps of training images. They are made once at the site and are never
sent."""

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
from fedrad.system.folders import make_folder

IMAGES_AT_A_TIME = 32
"""Number of images that are simulated and stored at a time."""


def open_recipe_generator(
    settings: ProgressionAugmentation, outcomes: list[str], input_: InputSettings
) -> OpenedGenerator:
    """Open the generator that a recipe names.

    Parameters
    ----------
    settings
        `recipe.progression`, with its file and hash.
    outcomes, input_
        Outcomes and images of the experiment; the generator must be made for both.

    Raises
    ------
    SiteProblem
        "weights": the file is missing, is another one, or is for other images or outcomes.
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
class _Plan:
    """Steps to simulate of one training image. `towards`: (K,) 1 for the outcomes towards which it
    progresses, NaN for all others; `labels`: (N, K) labels of the N steps."""

    towards: NDArray[np.float64]
    labels: NDArray[np.float32]


@dataclass(frozen=True)
class SimulatedImages:
    """The simulated later steps of a site's training images.

    Parameters
    ----------
    settings
        `recipe.progression`.
    generator
        The generator that simulates the steps.
    outcomes
        The K outcomes of the experiment.
    folder
        Where steps are stored, by generator, settings and image, so that rounds, folds and
        experiments share them.
    device
        Where the generator runs.
    log
        Log of the site.
    """

    settings: ProgressionAugmentation
    generator: OpenedGenerator
    outcomes: list[str]
    folder: Path
    device: torch.device
    log: logging.Logger | logging.LoggerAdapter[logging.Logger]

    def later_steps(self, examples: Examples) -> dict[int, LaterSteps]:
        """Simulate the later steps of images, or read those that are stored.

        An image with outcomes progresses in all of them. With `soft` above 0, an image without
        outcomes progresses towards the first one that is known to be absent. An image without a
        visible lung has no steps.

        Returns
        -------
        dict
            Row of the image -> its later steps.

        Raises
        ------
        SiteProblem
            "device": too little memory. "storage": a file cannot be written.
        """
        plans = {
            row: plan for row, labels in enumerate(examples.labels) if (plan := self._plan(labels))
        }
        files = {row: self._file(examples.keys[row], plan) for row, plan in plans.items()}
        missing = [row for row, file in files.items() if not file.is_file()]
        for start in range(0, len(missing), IMAGES_AT_A_TIME):
            rows = missing[start : start + IMAGES_AT_A_TIME]
            self._make(examples, {row: (plans[row], files[row]) for row in rows})
            self.log.info("simulated progressions: %d of %d", start + len(rows), len(missing))
        later = {}
        for row, file in files.items():
            steps = np.load(file, mmap_mode="r")
            if len(steps):
                later[row] = LaterSteps(steps, plans[row].labels)
        if left := len(files) - len(later):
            self.log.warning("%d images are not simulated: no lungs found in them", left)
        return later

    def _plan(self, labels: NDArray[np.float32]) -> _Plan | None:
        steps = np.repeat(labels[None], self.settings.images, axis=0)
        positive = labels == 1
        if positive.any():
            return _Plan(np.where(positive, 1.0, np.nan), steps)
        negative = np.flatnonzero(labels == 0)
        if not self.settings.soft or not len(negative):
            return None
        towards = np.full(len(labels), np.nan)
        towards[negative[0]] = 1.0
        numbers = np.arange(1, self.settings.images + 1)
        steps[:, negative[0]] = self.settings.soft * numbers / self.settings.images
        return _Plan(towards, steps)

    def _file(self, image: str, plan: _Plan) -> Path:
        edit = self.settings.model_dump_json(exclude={"probability", "soft", "generator", "batch"})
        made = sha256(f"{edit}:{self.outcomes}".encode()).hexdigest()[:32]
        towards = "".join("1" if value == 1 else "-" for value in plan.towards)
        return self.folder / made / f"{image[:32]}{towards}.npy"

    def _make(self, examples: Examples, planned: Mapping[int, tuple[_Plan, Path]]) -> None:
        """Simulate and store the steps of some images; `planned`: row -> its plan and file."""
        rows = list(planned)
        pictures = examples.images[np.array(rows, np.int64)]
        masks = [region_mask(picture, self.settings.mask) for picture in pictures]
        with_lungs = [i for i, mask in enumerate(masks) if mask is not None]
        steps: NDArray[np.float32] = np.zeros((0, self.settings.images + 1, 0, 0), np.float32)
        if with_lungs:
            try:
                steps = simulate_progression(
                    self.generator.generator,
                    pictures[with_lungs],
                    np.stack([self._condition(planned[rows[i]][0]) for i in with_lungs]),
                    self.settings,
                    device=self.device,
                    mask=np.stack([mask for mask in masks if mask is not None]),
                )
            except TooLittleMemoryError as error:
                raise SiteProblem("device", str(error)) from error
        made = dict(zip(with_lungs, steps[:, 1:].astype(np.float16), strict=True))
        for i, row in enumerate(rows):
            _save(planned[row][1], made.get(i, np.zeros((0, 0, 0), np.float16)))

    def _condition(self, plan: _Plan) -> NDArray[np.float64]:
        """The outcomes towards which an image progresses, in the generator's order of outcomes."""
        known = list(self.generator.known)
        condition = np.full(len(known), np.nan)
        for outcome, value in zip(self.outcomes, plan.towards, strict=True):
            condition[known.index(outcome)] = value
        return condition


def _save(file: Path, steps: NDArray[np.float16]) -> None:
    """Write a file in one step, so that no incomplete file is ever read."""
    try:
        make_folder(file.parent)
        with replacing(file) as temporary, temporary.open("wb") as handle:
            np.save(handle, steps)
    except OSError as error:
        raise SiteProblem("storage", f"{file}: cannot be written ({error.strerror})") from error
