"""Phantom patients for `progression.py`: lungs cut out at 64 pixels, severity and region known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedrad.deploy.phantoms import (
    Anatomy,
    draw_radiograph,
    random_anatomy,
    true_lung_mask,
)
from fedrad.deploy.phantoms.hospital import draw_severity

SIDE, DRAWN = 64, 128


@dataclass(frozen=True)
class PhantomPatient:
    """All that is needed to draw a phantom again at another severity."""

    anatomy: Anatomy
    texture: int
    severity: float
    curve: float
    gain: float
    shift: float

    def film(self, severity: float) -> NDArray[np.float16]:
        """The lungs with some margin at this severity, (64, 64) in [-1024, 1024]."""
        picture = draw_radiograph(self.anatomy, severity, self.texture, DRAWN)
        picture = picture**self.curve * self.gain + self.shift
        return _cut(np.clip(picture, 0, 1), self.box()) * np.float16(2048) - np.float16(1024)

    def mask(self) -> NDArray[np.float16]:
        """Where severity acts, (64, 64) in [0, 1]."""
        return _cut(true_lung_mask(self.anatomy, DRAWN).astype(np.float32), self.box())

    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of a square about the lungs."""
        rows, columns = np.nonzero(true_lung_mask(self.anatomy, DRAWN))
        half = 0.55 * max(np.ptp(rows), np.ptp(columns))
        y, x = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
        return round(x - half), round(y - half), round(x + half), round(y + half)


def _cut(picture: NDArray[np.float32], box: tuple[int, int, int, int]) -> NDArray[np.float16]:
    image = Image.fromarray(picture.astype(np.float32)).crop(box)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float16)


@dataclass(frozen=True)
class PhantomCohort:
    """Patients with their images (N, 64, 64), outcomes (N, 1), severities (N,)."""

    patients: list[PhantomPatient]
    images: NDArray[np.float16]
    labels: NDArray[np.float32]
    severities: NDArray[np.float64]


def cohort(patients: int, seed: int) -> PhantomCohort:
    """Random patients, every second one with the outcome, each with a different exposure."""
    found, labels = [], []
    for number in range(patients):
        own = np.random.default_rng([seed, number])
        positive = bool(number % 2)
        found.append(
            PhantomPatient(
                random_anatomy("infant", own),
                int(own.integers(2**31)),
                draw_severity(positive, own),
                float(np.exp(own.normal(0, 0.12))),
                float(own.uniform(0.75, 0.92)),
                float(own.normal(0.06, 0.025)),
            )
        )
        labels.append([float(positive)])
    return PhantomCohort(
        found,
        np.stack([p.film(p.severity) for p in found]),
        np.array(labels, np.float32),
        np.array([p.severity for p in found]),
    )
