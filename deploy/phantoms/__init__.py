"""Phantoms: chest radiographs drawn by a program, with a known severity of lung disease.

What they are: pictures by a simple model of an X-ray (bodies of adjustable anatomy, a lung
texture ruled by one number), stored as the computed radiographs of hospitals that differ in
prevalence, detector, file format and habits. They let anyone run and test the whole platform
without a patient: the truth is known, and every identity field says CANARY, so that a search for
the word shows whether an identity left a hospital.

What they are not: patients, or a sample of any disease. A model trained on them knows nothing of
medicine, and an AUROC on them says that the machinery works and nothing about a clinic.
"""

from .anatomy import AgeGroup, Anatomy, random_anatomy, reposition
from .hospital import DEMO_HOSPITALS, Style, write_hospital
from .public_cohort import PUBLIC_STYLE, write_public_cohort
from .radiograph import draw_radiograph, true_lung_mask

__all__ = [
    "DEMO_HOSPITALS",
    "PUBLIC_STYLE",
    "AgeGroup",
    "Anatomy",
    "Style",
    "draw_radiograph",
    "random_anatomy",
    "reposition",
    "true_lung_mask",
    "write_hospital",
    "write_public_cohort",
]
