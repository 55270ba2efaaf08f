"""From a hospital's file to the network's input: see `reading_chain.read_radiograph`.

`image_store` caches the results on disk. `worker_processes` confines the crash of a decoder to one
file.
"""

from fedrad.models.settings import InputSettings

from .image_store import ImageStore
from .reading import REMARKS, Radiograph, Reading, Remark, Tags, UnusableImage
from .reading_chain import read_radiograph
from .stored_images import StoredImages

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
