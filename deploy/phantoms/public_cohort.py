"""A public cohort of adult phantoms, on which a backbone can be pretrained."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from .anatomy import random_anatomy
from .dicom import PhantomIdentity
from .hospital import CohortWriter, ImageProgress, draw_outcomes, draw_severity
from .style import Style

PUBLIC_STYLE = Style(
    prevalence=0.5,
    rows=192,
    columns=192,
    bits=12,
    photometric="MONOCHROME2",
    transfer_syntax="explicit",
    tubes=0.15,
    leads=0.25,
)


def write_public_cohort(
    folder: Path,
    images: int,
    seed: int,
    progress: ImageProgress | None = None,
    *,
    outcome: str = "lung_disease",
    style: Style = PUBLIC_STYLE,
) -> None:
    """Write a cohort of adults, one image each, whose disease has the same texture as in infants.

    The files are those of `write_hospital`; `cohort.csv` has the columns `file, patient_id,
    <outcome>, sex, age` (years). As in a published data set, no image contains an identity.

    Parameters
    ----------
    folder
        Where to write.
    images
        Number of images and patients.
    seed
        Seed of everything random.
    progress
        Called after each image.
    outcome
        Name of the outcome's column.
    style
        Appearance of the images, and prevalence.
    """
    rng = np.random.default_rng([seed, 21])
    writer = CohortWriter(folder, style, "fedrad public phantoms", images, progress)
    for number, positive in enumerate(draw_outcomes(images, style.prevalence, rng)):
        patient_rng = np.random.default_rng([seed, 22, number])
        female = bool(patient_rng.uniform() < 0.5)
        years = int(np.clip(patient_rng.normal(56, 16), 20, 95))
        severity = draw_severity(bool(positive), patient_rng)
        anatomy = random_anatomy("adult", patient_rng, female=female)
        texture = int(patient_rng.integers(2**31))
        code = f"PUBLIC-{number + 1:05d}"
        acquired = datetime(2015, 1, 1) + timedelta(minutes=int(patient_rng.integers(525_600)))
        identity = PhantomIdentity(
            patient_id=code,
            patient_name=code,
            birth_date=datetime(acquired.year - years, 1, 1),
            sex="F" if female else "M",
            age=f"{years:03d}Y",
            accession_number=code,
            study_id="1",
            institution=writer.institution,
            referring_physician="",
            acquired=acquired,
            removed=True,
        )
        file = writer.image(identity, anatomy, severity, texture, patient_rng)
        row = {
            "file": file,
            "patient_id": code,
            outcome: int(positive),
            "sex": identity.sex,
            "age": years,
        }
        writer.row(row, severity)
    writer.close()
