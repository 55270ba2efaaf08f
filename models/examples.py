"""A site's images with outcomes, and the views of them that training sees."""

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
"""Images are held on a GPU where they take no more than this share of its free memory."""

VIEW_VERSION = 2
"""Version of the way from a seed to the pixels of a fixed view. Raised whenever it changes, so that
activations which a site stored of an earlier view are not taken for those of a new one."""


class Images(Protocol):
    """Images as an array, perhaps on disk: (N, S, S) float16 in [-1024, 1024]."""

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, rows: NDArray[np.int64] | slice, /) -> NDArray[np.float16]:
        """Some images, (n, S, S)."""
        ...


@dataclass(frozen=True)
class LaterSteps:
    """Simulated later steps of one image: (n, S, S) float16 in [-1024, 1024], and what they are
    labelled, (n, K)."""

    steps: NDArray[np.float16]
    labels: NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """Images with outcomes, one row per unit.

    Attributes
    ----------
    images
        (N, S, S) float16 in [-1024, 1024], may be on disk.
    labels
        (N, K) float32 in {0, 1}, NaN where an outcome is missing.
    patients
        Whose unit each is, (N,), where patients have several; None: each unit is a patient.
    later
        Row -> its simulated later steps, where training is to see some.
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
        """SHA-256 of each image's pixels: the same image has the same views wherever it stands."""
        return [
            sha256(picture.tobytes()).hexdigest()
            for start in range(0, len(self), 64)
            for picture in self.images[start : start + 64]
        ]


@dataclass(frozen=True)
class View:
    """One of the fixed views of an image; `key` names its pixels (hexadecimal)."""

    row: int
    seed: int
    key: str


DrawnViews = Tensor | list[View]
"""Views of a batch: pixels (n, 1, S, S) of fresh ones, names of fixed ones."""


class Views:
    """What training sees of the examples: fresh draws, or some of a pool of fixed views.

    A fixed view is a function of the image, the augmentation, `recipe.view_seed` and its number
    below `recipe.views`, drawn and computed for each image alone: it is the same to the bit in
    whichever batch, fold or experiment it turns up. Which augmentations are on does not change
    what the others draw.
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
        """The images themselves, (n, 1, S, S) float32 on the device."""
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
            What is drawn from, a stream for each of: number of the fixed view, simulated later
            step, every augmentation.

        Returns
        -------
        tuple[DrawnViews, Tensor]
            The views, fresh or fixed, of the images or of their simulated later steps, and the
            outcomes (n, K) on the device.
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
        """Fixed view `number` of an image."""
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
    """Maps (n, C, H, W) with the channels of a pixel side by side; other tensors as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
