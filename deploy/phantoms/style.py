"""The style of a phantom hospital, and the hospitals of the demonstration."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Style:
    """Appearance and storage of a hospital's images, and the prevalence of the outcome."""

    prevalence: float  # share of patients with the outcome
    rows: int
    columns: int
    bits: Literal[10, 12, 16]
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    transfer_syntax: Literal["explicit", "rle", "jpeg2000"]
    slope: float = 1.0
    intercept: float = 0.0
    window: bool = True  # whether display windows are written
    contrast: float = 1.0  # exponent of the film's curve; above 1 lungs are darker
    exposure: float = 0.0  # shift of the film's brightness, -0.1 to 0.1
    dose: float = 1.0  # below 1 the image is noisier
    tubes: float = 0.5  # share of images with tubes
    leads: float = 0.5  # share of images with ECG leads
    marker: float = 0.7  # share of images with a side marker
    collimation: float = 0.3  # share of images with a collimated border


DEMO_HOSPITALS: dict[str, Style] = {
    "phantom-a": Style(
        prevalence=0.50,
        rows=300,
        columns=256,
        bits=12,
        photometric="MONOCHROME2",
        transfer_syntax="explicit",
        tubes=0.8,
        leads=0.7,
    ),
    "phantom-b": Style(
        prevalence=0.35,
        rows=256,
        columns=256,
        bits=10,
        photometric="MONOCHROME1",
        transfer_syntax="jpeg2000",
        window=False,
        contrast=1.2,
        exposure=-0.03,
        dose=0.6,
        tubes=0.5,
        leads=0.9,
        collimation=0.8,
    ),
    "phantom-c": Style(
        prevalence=0.30,
        rows=288,
        columns=288,
        bits=16,
        photometric="MONOCHROME2",
        transfer_syntax="rle",
        slope=0.5,
        intercept=-1024.0,
        contrast=0.85,
        exposure=0.04,
        dose=1.5,
        tubes=0.3,
        leads=0.4,
        marker=0.9,
        collimation=0.1,
    ),
}
