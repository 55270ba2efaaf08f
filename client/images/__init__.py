"""From a hospital's file to the right picture: `chain.read_radiograph` states the whole way.

`store.ImageStore` keeps what it made; `contained` runs it where a crash harms one file only.
"""

from fedrad.models.settings import InputSettings

from .chain import read_radiograph
from .reading import REMARKS, Radiograph, Reading, Remark, Tags, UnusableImage
from .store import ImageStore
from .stored import StoredImages

__all__ = [
    "REMARKS",
    "ImageStore",
    "InputSettings",
    "Radiograph",
    "Reading",
    "Remark",
    "StoredImages",
    "Tags",
    "UnusableImage",
    "read_radiograph",
]
