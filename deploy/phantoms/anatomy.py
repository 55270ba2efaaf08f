"""The body of a phantom: its parameters, and random bodies."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .shapes import Pose

AgeGroup = Literal["infant", "adult"]


@dataclass(frozen=True)
class Anatomy:
    """One body. Lengths are in body units (half the field is 1); y increases downwards."""

    age_group: AgeGroup
    female: bool
    field_mm: float  # side of the field
    pose: Pose
    width: float  # half the widest inner thorax
    apex: float  # y of the lung apices
    dome: float  # y of the right diaphragm dome; the left one is lower
    dome_left: float  # by how much the left dome is lower
    dome_height: float  # how far the domes rise above the costophrenic angles
    cage_power: float  # 1.5 barrel to 2.5 triangular: shape of the thorax outline
    wall: float  # thickness of muscle and fat beside the ribs
    depth: float  # attenuation of the body along the beam at its middle
    aeration: float  # share of that attenuation that is missing in the lungs because of air
    rib_spacing: float
    rib_drop: float  # how far a rib falls from spine to its front end
    rib_radius: float
    rib_density: float
    spine_radius: float
    vertebra: float  # height of a vertebra with its disc
    turn: float  # rotation about the long axis, as a shift of the front against the spine
    heart: tuple[float, float]  # radii
    heart_x: float  # how far the heart lies to the left
    mediastinum: float  # half width above the heart; wide in infants (thymus)
    arms: float  # angle of the upper arms: negative hanging, positive raised
    markings: float  # strength of normal vessels
    details: int  # seed of details without a parameter: bowel gas, vessel paths

    @property
    def infant(self) -> bool:
        """Whether this is the body of an infant."""
        return self.age_group == "infant"


def random_anatomy(
    age_group: AgeGroup, rng: np.random.Generator, *, female: bool = False
) -> Anatomy:
    """A random body of this age group, with sizes and shapes that vary as in patients."""

    def about(mean: float, spread: float) -> float:
        return float(mean * (1 + np.clip(rng.normal(0, spread), -2.2, 2.2)))

    infant = age_group == "infant"
    width = about(0.68, 0.05) if infant else about(0.79, 0.03)
    body = Anatomy(
        age_group=age_group,
        female=female,
        field_mm=about(150, 0.12) if infant else about(400, 0.05),
        pose=Pose(),
        width=width,
        apex=float(rng.normal(-0.62, 0.03)) if infant else float(rng.normal(-0.78, 0.03)),
        dome=float(rng.normal(0.28, 0.05)) if infant else float(rng.normal(0.40, 0.06)),
        dome_left=float(rng.uniform(0.0, 0.06)),
        dome_height=about(0.17, 0.2) if infant else about(0.24, 0.2),
        cage_power=about(2.6, 0.08) if infant else about(2.3, 0.08),
        wall=about(0.055, 0.25) if infant else about(0.07, 0.3),
        depth=about(1.9, 0.10) if infant else about(2.3, 0.12),
        aeration=about(0.68, 0.08) if infant else about(0.76, 0.06),
        rib_spacing=about(0.128, 0.06) if infant else about(0.145, 0.06),
        rib_drop=about(0.26, 0.25) if infant else about(0.52, 0.15),
        rib_radius=about(0.021, 0.1) if infant else about(0.026, 0.1),
        rib_density=about(0.20, 0.2) if infant else about(0.24, 0.2),
        spine_radius=about(0.085, 0.08) if infant else about(0.075, 0.08),
        vertebra=about(0.105, 0.06) if infant else about(0.13, 0.06),
        turn=float(rng.normal(0, 0.03)),
        heart=(about(0.56, 0.08) * width, about(0.27, 0.08))
        if infant
        else (about(0.50, 0.08) * width, about(0.27, 0.1)),
        heart_x=about(0.17, 0.15) * width if infant else about(0.20, 0.2) * width,
        mediastinum=about(0.29, 0.18) * width if infant else about(0.19, 0.12) * width,
        arms=float(rng.choice([-0.9, 0.9]) + rng.normal(0, 0.2))
        if infant
        else float(rng.normal(-1.15, 0.1)),
        markings=about(1.0, 0.25),
        details=int(rng.integers(2**31)),
    )
    return reposition(body, rng)


def reposition(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """The same body, placed on the detector again with another tilt, scale and shift."""
    tilt = 0.07 if anatomy.infant else 0.02
    pose = Pose(
        angle=float(np.clip(rng.normal(0, tilt), -2.5 * tilt, 2.5 * tilt)),
        scale=float(rng.uniform(0.94, 1.12)) if anatomy.infant else float(rng.uniform(0.94, 1.04)),
        shift_x=float(rng.normal(0, 0.03)),
        shift_y=float(rng.normal(0, 0.03)),
    )
    return replace(anatomy, pose=pose)
