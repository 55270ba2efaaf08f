"""Functions that read one file. They run in this process or in a worker process."""

from hashlib import sha256
from pathlib import Path

from fedrad.models.settings import InputSettings
from fedrad.system.files import read_regular

from .dicom import instance_uid
from .lungs import open_lung_network
from .reading import Reading, UnusableImage
from .reading_chain import read_radiograph

LARGEST_IMAGE = 2**30
"""Bytes of an image file."""


def read_file(
    path: str, settings: InputSettings, pspnet: str | None = None
) -> tuple[Reading, bytes | None]:
    """The reading of a file, and its picture as float16 bytes; None if it is unusable.

    `pspnet` is the file of that network's weights, for region = "lungs-pspnet".
    """
    try:
        data = read_regular(Path(path), LARGEST_IMAGE)
    except OSError as error:
        return Reading("", unusable=f"cannot be opened ({error.strerror})"), None
    try:
        radiograph = read_radiograph(data, settings, open_lung_network(pspnet) if pspnet else None)
    except UnusableImage as problem:
        return Reading(sha256(data).hexdigest(), unusable=str(problem)), None
    return radiograph.reading, radiograph.picture.tobytes()


def file_uid(path: str) -> str:
    """SOPInstanceUID of a file; "" if it has none."""
    try:
        return instance_uid(Path(path).read_bytes())
    except OSError:
        return ""


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's bytes; b"" if it cannot be read."""
    total = sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                total.update(chunk)
    except OSError:
        return b""
    return total.digest()
