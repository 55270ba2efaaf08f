"""Devices on, in and around a patient in intensive care, drawn onto the film after the body.

None depends on the severity, so a model has to learn to ignore them.
"""

import numpy as np

from .anatomy import Anatomy
from .shapes import Frame, Plane, Pose, add_ellipsoid, add_tube, bezier_curve, wide_blur

_LETTERS = {  # strokes in a box of width 1 and height 2, y downwards
    "L": [[(0.0, 0.0), (0.0, 2.0), (1.0, 2.0)]],
    "R": [
        [(0.0, 2.0), (0.0, 0.0), (0.8, 0.1), (1.0, 0.5), (0.8, 0.9), (0.0, 1.0)],
        [(0.5, 1.0), (1.0, 2.0)],
    ],
}


def add_tubes(film: Plane, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Draw an endotracheal tube and, in 80 % of images, a gastric tube."""
    a, frame = anatomy, Frame.of(anatomy.pose, len(film))
    tip = a.apex + rng.uniform(0.12, 0.30)
    mouth = (rng.normal(0, 0.15), a.apex - 0.7)
    path = bezier_curve(
        [mouth, (0.0, a.apex - 0.25), (0.6 * a.turn, tip - 0.2), (0.6 * a.turn, tip)]
    )
    add_tube(film, frame, path, 0.020, 0.16, hollow=0.6)
    if rng.uniform() < 0.8:
        stomach = (rng.uniform(0.2, 0.5) * a.width, a.dome + rng.uniform(0.15, 0.4))
        bend = [(0.05, a.apex - 0.2), (-0.04, a.apex + 0.4), (0.08, a.dome)]
        add_tube(film, frame, bezier_curve([mouth, *bend, stomach], 12), 0.011, 0.14, hollow=0.4)


def add_leads(film: Plane, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Draw three ECG electrodes and their wires."""
    a, frame = anatomy, Frame.of(anatomy.pose, len(film))
    exit_point = (rng.choice([-1.0, 1.0]) * 1.1, rng.uniform(0.2, 1.0))
    for place in ((-0.75, a.apex + 0.15), (0.75, a.apex + 0.15), (0.7, a.dome + 0.25)):
        x = place[0] * a.width + rng.normal(0, 0.06)
        y = place[1] + rng.normal(0, 0.06)
        add_ellipsoid(film, frame, (x, y), (0.045, 0.045), 0.10, power=0.3)
        add_ellipsoid(film, frame, (x, y), (0.016, 0.016), 0.35, power=0.3)
        bend = (x + rng.normal(0, 0.3), y + rng.uniform(0.1, 0.5))
        add_tube(film, frame, bezier_curve([(x, y), bend, exit_point]), 0.008, 0.22)


def add_marker(film: Plane, rng: np.random.Generator) -> None:
    """Draw a lead letter for the side in an upper or lower corner: R on the left of the image, L on
    the right."""
    frame = Frame.of(Pose(), len(film))
    letter = str(rng.choice(["L", "R"]))
    side = -1.0 if letter == "R" else 1.0
    left, top = (
        side * rng.uniform(0.68, 0.76) - 0.02,
        rng.choice([-0.8, 0.62]) + rng.normal(0, 0.03),
    )
    for stroke in _LETTERS[letter]:
        points = [(float(left + 0.05 * x), float(top + 0.05 * y)) for x, y in stroke]
        add_tube(film, frame, points, 0.014, 0.75)


def collimate(film: Plane, rng: np.random.Generator) -> Plane:
    """The film with a border that collimation left unexposed, which is bright."""
    size = len(film)
    open_field = np.zeros_like(film)
    top, bottom, left, right = (rng.uniform(0.01, 0.07, 4) * size).astype(int)
    open_field[top : size - bottom, left : size - right] = 1
    edge = wide_blur(open_field, 1.5)
    return np.asarray(film * edge + 0.97 * (1 - edge), dtype=np.float32)
