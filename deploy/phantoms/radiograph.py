"""A chest radiograph drawn from parameters by a model of its physics.

Shapes add attenuation along the beam. A logarithmic response turns the transmitted beam, with
scatter and quantum noise, into a film. Severity changes the lungs only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from . import lung_texture
from .anatomy import Anatomy
from .shapes import (
    Frame,
    Plane,
    add_ellipsoid,
    add_tube,
    bezier_curve,
    raised,
    smoothstep,
    tube_profile,
    wide_blur,
)


@dataclass(frozen=True)
class _Thorax:
    """Planes that several organs need. `u` is 0 at the midline and 1 at the rib cage."""

    cage: Plane
    u: Plane
    above_dome: Plane
    solid: Plane
    air: Plane


def _cage(a: Anatomy, y: Plane) -> Plane:
    """Half the width of the rib cage at height `y`, relative to its maximum near the diaphragm."""
    low = a.dome + a.dome_height
    s = np.clip((y - np.float32(a.apex - 0.02)) / np.float32(low - a.apex), 0, 1)
    return np.maximum(raised(1 - raised(1 - s, a.cage_power), 0.55), np.float32(1e-3))


def _thorax(a: Anatomy, frame: Frame) -> _Thorax:
    x, y = frame.x, frame.y
    cage = _cage(a, y) * np.float32(a.width)
    u = np.abs(x) / cage
    left = x > a.turn
    # A dome is highest somewhat medial of its middle and falls steeply to the lateral angle.
    across = np.clip(np.abs(x - a.turn) / np.float32(a.width), 0, 1.1)
    fall = np.float32(a.dome_height) * raised(np.clip(np.abs(across - 0.42) / 0.58, 0, 1.3), 2.2)
    edge = np.float32(a.dome) + np.where(left, np.float32(a.dome_left), np.float32(0)) + fall
    above = smoothstep(0.012, -0.022, y - edge)
    recess = 0.16 * smoothstep(0.30, 0.0, y - edge)  # lung behind the dome, faint
    hx, hy = a.heart_x + a.turn, a.dome - 0.62 * a.heart[1]
    cos, sin = np.float32(np.cos(0.5)), np.float32(np.sin(0.5))
    dx, dy = x - np.float32(hx), y - np.float32(hy)
    # Fuller towards the apex (the image's lower right), narrow towards the great vessels.
    along = (cos * dx + sin * dy) / np.float32(a.heart[0])
    heart = along**2 + ((cos * dy - sin * dx) / (a.heart[1] * (1 + 0.22 * along))) ** 2
    right = ((x - np.float32(a.turn + 0.02)) / np.float32(0.62 * a.heart[0])) ** 2 + (
        dy / np.float32(0.95 * a.heart[1])
    ) ** 2
    bulge = 1 + 0.18 * np.sin((y - np.float32(a.apex)) * 9 + np.sign(x))
    band = ((x - np.float32(0.6 * a.turn)) / (np.float32(a.mediastinum) * bulge)) ** 2
    nearest = np.minimum(np.minimum(heart, right), band)
    solid = raised(1 - nearest, 0.4) * (nearest < 1)
    filled = np.sqrt(np.maximum(1 - u * u, 0)) * np.maximum(above, recess)
    air = filled * (1 - 0.9 * solid)
    return _Thorax(cage, u, above, solid, air.astype(np.float32))


def _in_lung(t: _Thorax) -> Plane:
    """1 inside the lungs, 0 outside, soft at the border."""
    return (
        smoothstep(1.0, 0.93, t.u)
        * t.above_dome
        * smoothstep(0.45, 0.05, t.solid)
        * smoothstep(0.05, 0.25, t.cage)
    )


def true_lung_mask(anatomy: Anatomy, size: int) -> NDArray[np.bool_]:
    """The true mask of the lungs, (size, size). Pixels outside do not depend on severity."""
    return np.asarray(_in_lung(_thorax(anatomy, Frame.of(anatomy.pose, size))) > 0)


def _body(a: Anatomy, frame: Frame, t: _Thorax) -> Plane:
    """Soft tissue: trunk, neck, head or jaw, arms, and breasts in women."""
    x, y = frame.x, frame.y
    trunk = np.where(
        y < a.dome,
        np.maximum(t.cage, 0.8 * a.width),
        a.width * (1 - 0.05 * smoothstep(0.3, 0.9, y)),
    ) + np.float32(a.wall)
    shoulder = a.apex + (0.02 if a.infant else 0.0)
    neck = np.float32(0.30 if a.infant else 0.24)
    slope = smoothstep(shoulder - 0.16, shoulder + 0.16, y)
    half = neck + (trunk - neck) * slope
    plane = (
        np.float32(a.depth) * np.sqrt(np.maximum(1 - (x / half) ** 2, 0)) * (0.72 + 0.28 * slope)
    )
    for side in (-1.0, 1.0):
        root = (side * (a.width * 0.86 + a.wall), shoulder + 0.13)
        end = (root[0] + side * 1.4 * np.cos(a.arms), root[1] - 1.4 * np.sin(a.arms))
        add_tube(plane, frame, [root, end], 0.17, 0.5 * a.depth)
        if a.female and not a.infant:
            add_ellipsoid(
                plane, frame, (side * 0.55 * a.width, a.dome - 0.10), (0.27, 0.25), 0.22, power=0.8
            )
    if a.infant:
        add_ellipsoid(plane, frame, (0.0, a.apex - 0.56), (0.44, 0.36), 0.9, power=0.4)
    return np.asarray(plane, dtype=np.float32)


def _ribs(a: Anatomy, frame: Frame, t: _Thorax) -> Plane:
    """Twelve pairs of ribs, each a tilted ring: its back half, and its front half to the cartilage.

    All ribs of one half are level lines of one phase plane, so they are drawn together.
    """
    cage = t.cage * np.float32(1 + 1.2 * a.rib_radius / a.width)
    u = np.abs(frame.x - np.float32(0.3 * a.turn)) / cage
    sine = np.sqrt(np.maximum(1 - u * u, 0))
    # Upper ribs are short, so the drop of a rib increases with the width of the cage.
    drop = np.float32(a.rib_drop / 2) * (0.35 + 0.65 * cage / np.float32(a.width))
    first = a.apex + 0.035
    along_beam = 1 / np.maximum(sine, 0.45)
    total = np.zeros_like(u)
    for face, strength in ((-1.0, 1.0), (1.0, 0.75)):
        phase = (frame.y - np.float32(first) - drop * (1 + np.float32(face) * sine)) / np.float32(
            a.rib_spacing
        )
        down, across = np.gradient(phase, 2 / (frame.size * a.pose.scale))
        slope = np.sqrt(np.maximum(down * down + across * across, 1e-6))
        number = np.clip(np.rint(phase), 0, 11)
        d = (phase - number) / slope / np.float32(a.rib_radius)
        bone = tube_profile(d * d, 0.72) * np.minimum(along_beam, 1.9)
        if face > 0:  # the front ends in cartilage, which is hardly visible
            bone *= smoothstep(0.50, 0.62, u) * smoothstep(9.5, 7.5, phase)
        else:
            bone *= smoothstep(0.06, 0.14, np.abs(frame.x))
        total += np.float32(strength) * bone
    return np.asarray(total * np.float32(2.0 * a.rib_density) * (u < 1), dtype=np.float32)


def _spine(plane: Plane, a: Anatomy, frame: Frame) -> None:
    """Vertebral bodies with end plates, disc spaces, pedicles and spinous processes."""
    r = np.float32(a.spine_radius)
    near = np.flatnonzero((np.abs(frame.x + np.float32(0.3 * a.turn)) < 1.4 * r).any(axis=0))
    columns = slice(int(near[0]), int(near[-1]) + 1)
    y = frame.y[:, columns]
    x = frame.x[:, columns] + np.float32(0.3 * a.turn) + 0.012 * np.sin(y * 3 + a.details % 7)
    phase = y / np.float32(a.vertebra)
    rest = np.abs(phase - np.rint(phase)) * 2  # 0 mid body, 1 mid disc
    across = np.abs(x) / (r * (1 + 0.12 * rest * rest))
    body = np.sqrt(np.maximum(1 - (across * across) ** 2, 0)) * smoothstep(0.92, 0.72, rest)
    plates = smoothstep(0.5, 0.74, rest) * smoothstep(0.92, 0.78, rest) * (across < 1)
    up = rest * np.float32(a.vertebra / 2) / r
    pedicle = np.exp(-(((np.sqrt((across - 0.68) ** 2 + (up * 0.7) ** 2) - 0.16) / 0.09) ** 2))
    process = np.exp(-((across / 0.16) ** 2) - (up / 0.35) ** 2)
    bone = 0.22 * body + 0.07 * plates + 0.12 * pedicle + 0.10 * process
    plane[:, columns] += np.float32(1.0 if a.infant else 0.9) * bone


def _shoulder_bones(plane: Plane, a: Anatomy, frame: Frame) -> None:
    """Clavicles, scapulae and humeri."""
    w, top = a.width, a.apex
    lift = 0.05 + 0.05 * np.sin(a.arms)
    r = 0.024 if a.infant else 0.030
    for side in (-1.0, 1.0):
        inner = (side * 0.13 * w + a.turn, top + 0.17)
        outer = (side * (0.95 * w), top + 0.08 - lift)
        bend = [(side * 0.38 * w + a.turn, top + 0.19), (side * 0.62 * w, top - 0.04 - lift)]
        add_tube(plane, frame, bezier_curve([inner, *bend, outer]), r, 0.6, hollow=0.7)
        root = (side * (w * 0.92 + a.wall), top + 0.10)
        end = (root[0] + side * 1.4 * np.cos(a.arms), root[1] - 1.4 * np.sin(a.arms))
        add_ellipsoid(plane, frame, root, (0.062, 0.062), 0.3, power=0.4)
        add_tube(plane, frame, [root, end], 0.045, 0.62, hollow=0.75)
        blade = [(root[0], top + 0.07), (side * 0.84 * w, top + 0.18), (side * 0.9 * w, top + 0.48)]
        add_tube(plane, frame, blade, 0.035, 0.13, hollow=0.6)


def _gas(plane: Plane, a: Anatomy, frame: Frame) -> None:
    """Air in the trachea and main bronchi, in the stomach and in the bowel."""
    carina = a.apex + (0.34 if a.infant else 0.42)
    shift = 0.6 * a.turn - 0.012
    r = 0.036 if a.infant else 0.042
    airway = np.zeros_like(plane)
    add_tube(airway, frame, [(shift, a.apex - 0.4), (shift - 0.01, carina)], r, 0.50)
    for side, fall in ((-1.0, 0.16), (1.0, 0.10)):
        end = (shift + side * 0.17, carina + fall)
        bronchus = np.zeros_like(plane)
        add_tube(bronchus, frame, [(shift, carina), end], 0.75 * r, 0.32)
        np.maximum(airway, bronchus, out=airway)
    plane -= airway
    rng = np.random.default_rng([a.details, 3])
    below = a.dome + a.dome_left + 0.13
    add_ellipsoid(
        plane,
        frame,
        (0.5 * a.width, below),
        (0.17, rng.uniform(0.06, 0.11)),
        -0.55,
        angle=-0.25,
        power=0.45,
    )
    if not a.infant:
        return
    for column in np.arange(-0.8, 0.81, 0.2):
        for row in np.arange(below + 0.14, 1.15, 0.16):
            # The liver fills the upper right of the abdomen, the left of the image.
            if rng.uniform() < 0.25 or (column < -0.1 and row < below + 0.3 + 0.3 * -column):
                continue
            centre = (column * a.width + rng.normal(0, 0.03), row + rng.normal(0, 0.03))
            radii = (rng.uniform(0.05, 0.12), rng.uniform(0.045, 0.08))
            angle = rng.uniform(-1.5, 1.5)
            add_ellipsoid(
                plane, frame, centre, radii, -rng.uniform(0.2, 0.5), angle=angle, power=0.4
            )


def draw_radiograph(
    anatomy: Anatomy,
    severity: float,
    texture_seed: int,
    size: int,
    *,
    dose: float = 1.0,
    noise_seed: int = 0,
) -> Plane:
    """A radiograph of this body with this severity of lung disease.

    The same anatomy and texture seed with another severity give a follow-up image of the same
    patient, whose pixels differ inside `true_lung_mask` only.

    Parameters
    ----------
    anatomy
        The body.
    severity
        Severity of disease, in [0, 1].
    texture_seed
        Seed of the patient's lung texture.
    size
        Side of the image, in pixels.
    dose
        Relative exposure; 1 is usual, less is noisier.
    noise_seed
        Seed of the quantum noise, together with `texture_seed`.

    Returns
    -------
    array
        (size, size) in [0, 1], bright where dense.
    """
    a, frame = anatomy, Frame.of(anatomy.pose, size)
    t = _thorax(a, frame)
    body = _body(a, frame, t)
    side = 0.34 * a.width
    hila = [(a.turn - side, a.apex + 0.43, -1.0), (a.turn + side, a.apex + 0.40, 1.0)]
    weight = _in_lung(t)
    healthy = body - np.float32(a.depth * a.aeration) * t.air
    healthy += (
        np.float32(a.markings) * t.air * lung_texture.vessels(frame, hila, a.width, a.details)
    )
    healthy += _ribs(a, frame, t)
    _spine(healthy, a, frame)
    _shoulder_bones(healthy, a, frame)
    _gas(healthy, a, frame)
    healthy = ndimage.gaussian_filter(np.maximum(healthy, 0), frame.in_pixels(0.005), truncate=2.5)
    primary = np.exp(-healthy)
    # Scatter and noise come from the healthy body, so that disease changes no pixel elsewhere.
    scatter = np.float32(0.30) * wide_blur(primary, 0.10 * size)
    change = weight * lung_texture.disease(severity, texture_seed, size)
    exposure = primary * np.exp(-change) + scatter
    grain = np.random.default_rng([texture_seed, noise_seed, 4]).standard_normal(
        (size, size), dtype=np.float32
    )
    exposure *= 1 + np.float32(0.010) * grain / np.sqrt(np.float32(dose) * (primary + scatter))
    dense = -np.log(np.maximum(exposure, 1e-3))
    return np.asarray(1 / (1 + np.exp(-2.3 * (dense - 0.75))), dtype=np.float32)
