"""From a hospital's file to the right picture."""

from fedrad.models.settings import InputSettings

from .chain import UnusableImage, read_image
from .reading import REMARKS, Radiograph, Reading, Remark, Tags

__all__ = [
    "REMARKS",
    "InputSettings",
    "Radiograph",
    "Reading",
    "Remark",
    "Tags",
    "UnusableImage",
    "read_image",
]
