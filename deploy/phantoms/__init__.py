"""Phantoms: chest radiographs drawn by a program, with a known severity of lung disease.

A phantom is drawn by a simple model of an X-ray: a body with adjustable anatomy, and a lung texture
that one number, the severity, controls. It is stored as a computed radiograph of a hospital;
hospitals differ in prevalence, detector, file format and habits. Anyone can thus run and test the
whole platform without patients. The truth is known. Every identity field contains the word CANARY,
so that a search for it shows whether an identity left a hospital.

Phantoms are no patients and no sample of any disease. A model that was trained on them has learnt
no medicine, and its AUROC shows only that the software works.
"""

from .anatomy import AgeGroup, Anatomy, random_anatomy, reposition
from .hospital import write_hospital
from .public_cohort import PUBLIC_STYLE, write_public_cohort
from .radiograph import draw_radiograph, true_lung_mask
from .style import DEMO_HOSPITALS, Style

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
