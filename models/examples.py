"""A site's images with outcomes, and their augmented views for training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .augment import augment
from .settings import RecipeSettings
from .streams import Streams

SHARE_OF_DEVICE = 0.25
"""Images are held on a GPU if they need at most this share of its free memory."""

VIEW_VERSION = 2
"""Version of the computation of a fixed view from its seed. It is raised with every change, so that
a site does not use activations that it stored for an earlier version of the view."""


class Images(Protocol):
    """Images as an array in memory or on disk: (N, S, S) float16 in [-1024, 1024]."""

    def __len__(self) -> int:
        """Number of images, N."""
        ...

    def __getitem__(self, rows: NDArray[np.int64] | slice, /) -> NDArray[np.float16]:
        """Some images, (n, S, S)."""
        ...


@dataclass(frozen=True)
class LaterSteps:
    """Simulated later steps of an image: (n, S, S) float16 in [-1024, 1024], with labels (n, K)."""

    steps: NDArray[np.float16]
    labels: NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """Images with outcomes, one row per unit.

    Attributes
    ----------
    images
        (N, S, S) float16 in [-1024, 1024], in memory or on disk.
    labels
        (N, K) float32 in {0, 1}, NaN where an outcome is missing.
    patients
        Number of the patient of each unit, (N,); None: each unit is a patient.
    later
        Row -> simulated later steps of its image, for training.
    """

    images: Images
    labels: NDArray[np.float32]
    patients: NDArray[np.int64] | None = None
    later: Mapping[int, LaterSteps] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of units."""
        return len(self.labels)

    @cached_property
    def keys(self) -> list[str]:
        """SHA-256 of each image's pixels: the same image has the same views in every cohort."""
        return [
            sha256(picture.tobytes()).hexdigest()
            for start in range(0, len(self), 64)
            for picture in self.images[start : start + 64]
        ]


@dataclass(frozen=True)
class View:
    """One fixed view of the image in `row`; `key` identifies its pixels (hexadecimal)."""

    row: int
    seed: int
    key: str


DrawnViews = Tensor | list[View]
"""Views of a batch: the pixels (n, 1, S, S) of fresh views, or the list of fixed views."""


class Views:
    """Augmented views of the examples: a fresh one for each use, or one of several fixed views.

    A fixed view depends only on the image, the augmentation settings, `recipe.view_seed` and its
    number below `recipe.views`. It is drawn and computed for each image alone, so it is the same
    to the bit in every batch, fold and experiment. Switching an augmentation off does not change
    the draws of the others.

    Parameters
    ----------
    examples
        The images with their outcomes.
    recipe
        Its `views`, `view_seed`, `augmentation` and `progression`.
    device
        Where views are computed.
    """

    def __init__(self, examples: Examples, recipe: RecipeSettings, device: torch.device) -> None:
        self.examples = examples
        self.recipe = recipe
        self.device = device
        self.resident = self._on_device()

    def _on_device(self) -> Tensor | None:
        if self.device.type != "cuda" or not len(self.examples):
            return None
        needed = len(self.examples) * self.examples.images[:1].nbytes
        if needed > SHARE_OF_DEVICE * torch.cuda.mem_get_info(self.device)[0]:
            return None
        return torch.from_numpy(np.ascontiguousarray(self.examples.images[:])).to(self.device)

    def raw(self, rows: NDArray[np.int64]) -> Tensor:
        """Images without augmentation, (n, 1, S, S) float32 on the device."""
        if self.resident is not None:
            images = self.resident[torch.from_numpy(rows).to(self.device)].float().unsqueeze(1)
        else:
            images = torch.from_numpy(self.examples.images[rows].astype(np.float32)).unsqueeze(1)
        return images.to(self.device, memory_format=torch.channels_last)

    def draw(self, rows: NDArray[np.int64], streams: Streams) -> tuple[DrawnViews, Tensor]:
        """Draw a view for each row of a batch.

        Parameters
        ----------
        rows
            Which images, (n,).
        streams
            Random streams: one for the number of the fixed view, one for the simulated later step,
            and one for each augmentation.

        Returns
        -------
        tuple[DrawnViews, Tensor]
            The views of the images or of their simulated later steps, and the outcomes (n, K) on
            the device.
        """
        labels = self.examples.labels[rows]
        if self.recipe.views:
            numbers = torch.randint(
                self.recipe.views, (len(rows),), generator=streams.generator("view")
            )
            views = [self.view(int(r), int(n)) for r, n in zip(rows, numbers, strict=True)]
            return views, torch.from_numpy(labels).to(self.device)
        images = self.raw(rows)
        generator = streams.generator("progression")
        for position, row in enumerate(rows.tolist() if self.examples.later else []):
            chance = torch.rand((), generator=generator)
            later = self.examples.later.get(row)
            if later is None or chance >= self.recipe.progression.probability:
                continue
            step = int(torch.randint(len(later.steps), (), generator=generator))
            images[position, 0] = torch.from_numpy(later.steps[step].astype(np.float32))
            labels[position] = later.labels[step]
        drawn = augment(images, self.recipe.augmentation, streams)
        return drawn, torch.from_numpy(labels).to(self.device)

    def view(self, row: int, number: int) -> View:
        """Fixed view `number` of the image in a row."""
        own = f"{self.recipe.view_seed}:{number}:{self.examples.keys[row]}"
        seed = int.from_bytes(sha256(own.encode()).digest()[:7])
        amount = self.recipe.augmentation.model_dump_json()
        key = sha256(f"{VIEW_VERSION}:{amount}:{own}".encode())
        return View(row, seed, key.hexdigest())

    def image(self, view: View) -> Tensor:
        """The pixels of a fixed view, (1, 1, S, S)."""
        image = self.raw(np.array([view.row]))
        return augment(image, self.recipe.augmentation, Streams(view.seed))

    def images(self, drawn: DrawnViews) -> Tensor:
        """The pixels of drawn views, (n, 1, S, S)."""
        if isinstance(drawn, Tensor):
            return drawn
        return channels_last(torch.cat([self.image(view) for view in drawn]))


def channels_last(x: Tensor) -> Tensor:
    """Feature maps (n, C, H, W) in channels-last memory format; other tensors unchanged."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
