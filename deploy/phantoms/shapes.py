"""Soft shapes on a pixel grid, from which phantoms are drawn.

Lengths are in body units: half the side of the square field is 1, x increases to the right of the
image (the patient's left), y increases downwards, and (0, 0) is the middle of the thorax.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Pose:
    """How the body lies in the field: a rotation (radians), a scale and a shift (body units)."""

    angle: float = 0.0
    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0


@dataclass(frozen=True)
class Frame:
    """A pixel grid in body units; `x` and `y` are planes (size, size)."""

    x: Plane
    y: Plane
    size: int
    pose: Pose

    @classmethod
    def of(cls, pose: Pose, size: int) -> "Frame":
        """The grid of a square field of `size` pixels, for a body in this pose."""
        axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
        across = axis[None, :] - np.float32(pose.shift_x)
        down = axis[:, None] - np.float32(pose.shift_y)
        cos = np.float32(np.cos(pose.angle) / pose.scale)
        sin = np.float32(np.sin(pose.angle) / pose.scale)
        return cls(cos * across + sin * down, cos * down - sin * across, size, pose)

    def pixel(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[Plane, Plane]:
        """Rows and columns (fractions of pixels) of points given in body units."""
        cos, sin = np.cos(self.pose.angle), np.sin(self.pose.angle)
        across = self.pose.scale * (cos * x - sin * y) + self.pose.shift_x
        down = self.pose.scale * (sin * x + cos * y) + self.pose.shift_y
        half = self.size / 2
        return (
            ((down + 1) * half - 0.5).astype(np.float32),
            ((across + 1) * half - 0.5).astype(np.float32),
        )

    def box(self, x: float, y: float, radius: float) -> tuple[slice, slice]:
        """Slices of the pixels within `radius` of a point; small shapes are drawn only there."""
        cos, sin = math.cos(self.pose.angle), math.sin(self.pose.angle)
        across = self.pose.scale * (cos * x - sin * y) + self.pose.shift_x
        down = self.pose.scale * (sin * x + cos * y) + self.pose.shift_y
        reach = self.in_pixels(radius) + 2

        def span(middle: float) -> slice:
            low, high = int(middle - reach), int(middle + reach) + 1
            return slice(min(max(low, 0), self.size), min(max(high, 0), self.size))

        return span((down + 1) * self.size / 2), span((across + 1) * self.size / 2)

    def in_pixels(self, length: float) -> float:
        """A length in body units, in pixels of this grid."""
        return length * self.pose.scale * self.size / 2


def smoothstep(low: float, high: float, value: Plane) -> Plane:
    """0 below `low`, 1 above `high`, smooth between. Decreasing if `low` > `high`."""
    t = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def raised(base: Plane, exponent: float) -> Plane:
    """base ** exponent for base >= 0, by logarithms, several times faster than NumPy's power."""
    return np.asarray(np.exp(np.float32(exponent) * np.log(np.maximum(base, np.float32(1e-9)))))


def add_ellipsoid(
    plane: Plane,
    frame: Frame,
    centre: tuple[float, float],
    radii: tuple[float, float],
    amount: float,
    *,
    angle: float = 0.0,
    power: float = 0.5,
) -> None:
    """Add the thickness of an ellipsoid to a plane.

    Parameters
    ----------
    plane
        Attenuation (size, size), changed in place.
    frame
        Its grid.
    centre, radii
        In body units.
    amount
        Thickness at the centre.
    angle
        Rotation, in radians.
    power
        Shape of the profile; 0.5 is an ellipsoid, lower values have a harder edge.
    """
    box = frame.box(*centre, max(radii))
    dx, dy = frame.x[box] - centre[0], frame.y[box] - centre[1]
    cos, sin = math.cos(angle), math.sin(angle)
    along, aside = (cos * dx + sin * dy) / radii[0], (cos * dy - sin * dx) / radii[1]
    inside: Plane = np.asarray(1 - along * along - aside * aside, dtype=np.float32)
    plane[box] += amount * raised(inside, power) * (inside > 0)


def add_tube(
    plane: Plane,
    frame: Frame,
    points: list[tuple[float, float]],
    radius: float,
    amount: float,
    *,
    hollow: float = 0.0,
) -> None:
    """Add the thickness of a tube along a polyline to a plane.

    Parameters
    ----------
    plane
        Attenuation (size, size), changed in place.
    frame
        Its grid.
    points
        Corners of the polyline, in body units.
    radius
        In body units.
    amount
        Thickness on the axis of a solid tube.
    hollow
        Inner radius as a share of the radius, in [0, 1). Bones and catheters are hollow, so their
        edges are bright.
    """
    points = [(float(x), float(y)) for x, y in points]  # NumPy scalars would widen the planes
    nearest = np.full_like(plane, np.inf)  # squared distance to the polyline
    for (ax, ay), (bx, by) in pairwise(points):
        ux, uy = bx - ax, by - ay
        length = math.hypot(ux, uy)
        box = frame.box((ax + bx) / 2, (ay + by) / 2, length / 2 + radius)
        dx, dy = frame.x[box] - ax, frame.y[box] - ay
        along = np.clip((dx * ux + dy * uy) / (length**2 + 1e-9), 0, 1)
        squared = (dx - along * ux) ** 2 + (dy - along * uy) ** 2
        np.minimum(nearest[box], squared, out=nearest[box])
    xs, ys = zip(*points, strict=True)
    middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
    box = frame.box(*middle, math.hypot(max(xs) - min(xs), max(ys) - min(ys)) / 2 + radius)
    plane[box] += amount * tube_profile(nearest[box] / np.float32(radius**2), hollow)


def tube_profile(d2: Plane, hollow: float) -> Plane:
    """Thickness across a tube of radius 1 at squared distance `d2` from its axis."""
    wall = np.sqrt(np.maximum(1 - d2, 0))
    if hollow > 0:
        wall = wall - np.sqrt(np.maximum(np.float32(hollow**2) - d2, 0))
    return np.asarray(wall, dtype=np.float32)


def bezier_curve(points: list[tuple[float, float]], pieces: int = 8) -> list[tuple[float, float]]:
    """A Bezier curve through control points, as a polyline of `pieces` segments."""
    t = np.linspace(0, 1, pieces + 1)
    control = np.array(points)[:, None, :] * np.ones((1, len(t), 1))
    while len(control) > 1:
        control = control[:-1] + (control[1:] - control[:-1]) * t[None, :, None]
    return [(float(x), float(y)) for x, y in control[0]]


def wide_blur(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur with a large `sigma` (pixels), computed on a coarse grid for speed."""
    step = max(1, int(sigma / 3))
    size = plane.shape[0]
    middle = slice(step // 2, None, step)
    coarse = ndimage.uniform_filter(plane, step, mode="nearest")[middle, middle]
    coarse = ndimage.gaussian_filter(coarse, sigma / step, mode="nearest", truncate=2.5)
    at = ((np.arange(size) - step // 2) / step).clip(0, coarse.shape[0] - 1)
    low = np.minimum(at.astype(int), coarse.shape[0] - 2)
    part = (at - low).astype(np.float32)
    rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
    return np.asarray(rows[:, low] * (1 - part) + rows[:, low + 1] * part, dtype=np.float32)
