"""A phantom hospital: a folder with radiographs and outcomes in its style."""

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrad.system.files import replacing

from . import devices
from .anatomy import Anatomy, random_anatomy, reposition
from .dicom import PhantomIdentity, StoredPixels, write_dicom
from .radiograph import draw_radiograph
from .shapes import Plane
from .style import Style

ImageProgress = Callable[[int, int], None]
"""Called with the number of images written and of all images."""

WITH_OUTCOME = (4.7, 2.3)
"""Parameters of the beta distribution of the severity of patients with the outcome."""
WITHOUT_OUTCOME = (1.8, 4.6)
"""The same without the outcome. The two overlap, so that even the exact severity has an AUROC of
only about 0.94."""


@dataclass(frozen=True)
class PlannedImage:
    """One image to be drawn, on this day of life."""

    day: int
    severity: float


def write_hospital(
    folder: Path,
    style: Style,
    patients: int,
    seed: int,
    follow_up: float = 0.0,
    progress: ImageProgress | None = None,
    *,
    outcome: str = "bpd",
) -> None:
    """Write the cohort of one hospital of infants. The same arguments give the same bytes.

    `folder/cohort.csv` has one row for each image, with the columns `file, patient_id, <outcome>,
    sex, gestational_age, day` (weeks, and days of life). `folder/dicom/` has the images.
    `folder/truth.csv` has the severity of each (`file, severity`), which is for evaluation only.

    Parameters
    ----------
    folder
        Where to write.
    style
        Appearance of the images, and prevalence.
    patients
        Number of patients, 1 or more.
    seed
        Seed of everything random.
    follow_up
        Share of the patients with one to three later images.
    progress
        Called after each image.
    outcome
        Name of the outcome's column.
    """
    rng = np.random.default_rng([seed, 11])
    place = hashlib.sha256(f"{seed} {style}".encode()).hexdigest()[:6]
    outcomes = draw_outcomes(patients, style.prevalence, rng)
    later = rng.permutation(patients) < round(follow_up * patients)
    plans = [
        _plan_images(bool(o), bool(more), rng) for o, more in zip(outcomes, later, strict=True)
    ]
    images = sum(len(images_planned) for images_planned in plans)
    writer = CohortWriter(folder, style, f"CANARY phantom hospital {place}", images, progress)
    for number, (positive, images_planned) in enumerate(zip(outcomes, plans, strict=True)):
        patient_rng = np.random.default_rng([seed, 12, number])
        female = bool(patient_rng.uniform() < 0.5)
        weeks = float(
            np.clip(patient_rng.normal(27.4 - 1.2 * images_planned[0].severity, 1.6), 23, 31.9)
        )
        anatomy = random_anatomy("infant", patient_rng, female=female)
        texture = int(patient_rng.integers(2**31))
        code = patient_rng.bytes(5).hex()
        born = datetime(2021, 1, 1) + timedelta(minutes=int(patient_rng.integers(3 * 525_600)))
        for planned in images_planned:
            acquired = born + timedelta(days=planned.day, minutes=int(patient_rng.integers(600)))
            identity = PhantomIdentity(
                patient_id=f"MRN-CANARY-{code}",
                patient_name=f"CANARY-{code}^Infant",
                birth_date=born,
                sex="F" if female else "M",
                age=f"{planned.day:03d}D",
                accession_number=f"CANARY-{patient_rng.bytes(4).hex()}",
                study_id=f"CANARY-{planned.day:03d}",
                institution=writer.institution,
                referring_physician=f"CANARY^Physician {patient_rng.integers(1, 9)}",
                acquired=acquired,
            )
            file = writer.image(identity, anatomy, planned.severity, texture, patient_rng)
            row = {
                "file": file,
                "patient_id": identity.patient_id,
                outcome: int(positive),
                "sex": identity.sex,
                "gestational_age": f"{weeks:.1f}",
                "day": planned.day,
            }
            writer.row(row, planned.severity)
            anatomy = reposition(anatomy, patient_rng)
    writer.close()


def draw_outcomes(patients: int, prevalence: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Outcomes (patients,) in random order, with exactly the prevalence up to rounding."""
    return np.asarray(rng.permutation(patients) < round(prevalence * patients))


def draw_severity(positive: bool, rng: np.random.Generator) -> float:
    """Random severity in [0, 1] of a patient with or without the outcome."""
    return float(rng.beta(*(WITH_OUTCOME if positive else WITHOUT_OUTCOME)))


def _plan_images(positive: bool, more: bool, rng: np.random.Generator) -> list[PlannedImage]:
    """The first image is on day 1; with `more`, later ones become worse with the outcome and better
    without it."""
    images_planned = [PlannedImage(1, draw_severity(positive, rng))]
    for day in (7, 14, 28)[: int(rng.integers(1, 4)) if more else 0]:
        trend = rng.normal(0.08 if positive else -0.06, 0.05)
        images_planned.append(
            PlannedImage(day, float(np.clip(images_planned[-1].severity + trend, 0, 1)))
        )
    return images_planned


class CohortWriter:
    """Writes the images of a cohort one by one, and then its two tables."""

    def __init__(
        self,
        folder: Path,
        style: Style,
        institution: str,
        images: int,
        progress: ImageProgress | None,
    ) -> None:
        self.folder, self.style, self.institution = Path(folder), style, institution
        self._progress, self._total = progress, images
        self._rows: list[dict[str, object]] = []
        self._truth: list[dict[str, object]] = []
        (self.folder / "dicom").mkdir(parents=True, exist_ok=True)

    def image(
        self,
        identity: PhantomIdentity,
        anatomy: Anatomy,
        severity: float,
        texture: int,
        rng: np.random.Generator,
    ) -> str:
        """Draw and write one image, and return its path relative to the cohort's folder.

        `texture` is the seed of the patient's lung texture; `severity` is in [0, 1].
        """
        file = f"dicom/{len(self._rows) + 1:05d}.dcm"
        film = acquire_film(anatomy, severity, texture, self.style, rng)
        spacing = anatomy.field_mm / max(self.style.rows, self.style.columns)
        pixels = store_film(film, self.style, spacing, rng)
        write_dicom(self.folder / file, identity, pixels, self.style.transfer_syntax)
        return file

    def row(self, row: dict[str, object], severity: float) -> None:
        """Add the table row of the image that was written last, and its severity."""
        self._rows.append(row)
        self._truth.append({"file": row["file"], "severity": f"{severity:.4f}"})
        if self._progress is not None:
            self._progress(len(self._rows), self._total)

    def close(self) -> None:
        """Write `truth.csv` and then `cohort.csv`, which marks the folder as complete."""
        for name, rows in (("truth.csv", self._truth), ("cohort.csv", self._rows)):
            with (
                replacing(self.folder / name) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as handle,
            ):
                table = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
                table.writeheader()
                table.writerows(rows)


def acquire_film(
    anatomy: Anatomy, severity: float, texture: int, style: Style, rng: np.random.Generator
) -> Plane:
    """Draw one film in this style.

    Exposure, curve and noise vary between images, so that brightness does not reveal the severity.

    Parameters
    ----------
    anatomy
        The body.
    severity
        Severity of disease, in [0, 1].
    texture
        Seed of the patient's lung texture.
    style
        Detector and devices.
    rng
        Random generator of exposure, noise and devices.

    Returns
    -------
    array
        (rows, columns) in [0, 1], bright where dense.
    """
    size = max(style.rows, style.columns)
    dose = style.dose * float(np.exp(rng.normal(0, 0.35)))
    noise_seed = int(rng.integers(2**31))
    film = draw_radiograph(anatomy, severity, texture, size, dose=dose, noise_seed=noise_seed)
    if rng.uniform() < style.tubes:
        devices.add_tubes(film, anatomy, rng)
    if rng.uniform() < style.leads:
        devices.add_leads(film, anatomy, rng)
    if rng.uniform() < style.marker:
        devices.add_marker(film, rng)
    if rng.uniform() < style.collimation:
        film = devices.collimate(film, rng)
    top, left = (size - style.rows) // 2, (size - style.columns) // 2
    film = film[top : top + style.rows, left : left + style.columns]
    curve = style.contrast * float(np.exp(rng.normal(0, 0.12)))
    gain = float(rng.uniform(0.75, 0.92))
    shift = style.exposure + float(rng.normal(0.06, 0.025))
    film = np.clip(film, 0, 1) ** np.float32(curve) * np.float32(gain) + np.float32(shift)
    return np.asarray(np.clip(film, 0, 1), dtype=np.float32)


def store_film(
    film: Plane, style: Style, spacing_mm: float, rng: np.random.Generator
) -> StoredPixels:
    """Quantise a film, (rows, columns) in [0, 1], to the style's bits, polarity and rescaling, and
    choose a display window. `spacing_mm` is the pixel spacing."""
    top = 2**style.bits - 1
    levels = np.rint(film * top).astype(np.uint16)
    stored = np.asarray(top - levels if style.photometric == "MONOCHROME1" else levels)
    window = None
    if style.window:
        low, high = np.percentile(stored, [rng.uniform(0.2, 4), rng.uniform(97, 99.8)])
        low, high = (style.slope * v + style.intercept for v in (low, high))
        window = (float(low + high) / 2, float(high - low))
    return StoredPixels(
        stored.astype(np.uint16),
        style.bits,
        style.photometric,
        style.slope,
        style.intercept,
        window,
        spacing_mm,
    )
