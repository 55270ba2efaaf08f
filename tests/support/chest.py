"""A drawn chest, and its picture in several files."""

import io
import struct
import zlib

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag

from fedrad.client.images import InputSettings, Radiograph, read_radiograph

SIDE = 96


def chest(side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Grey values in [0, 1], (side, side): black air, dark lungs, bright body and spine, noise."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    rng = np.random.default_rng(seed)
    body = 0.04 + 0.7 / (1 + np.exp(30 * ((x / 0.85) ** 2 + (y / 1.2) ** 2 - 1)))
    for centre in (-0.38, 0.38):
        lung = 1 / (1 + np.exp(8 * (((x - centre) / 0.27) ** 2 + ((y + 0.1) / 0.55) ** 2 - 1)))
        body -= (0.5 + 0.05 * np.sin(24 * y)) * lung
    body += 0.2 * np.exp(-((x / 0.1) ** 2))
    return np.clip(body + rng.normal(0, 0.01, body.shape), 0, 1)


CHEST = chest()


def read(data: bytes) -> Radiograph:
    """Read at the size at which it was drawn."""
    return read_radiograph(data, InputSettings(size=SIDE))


def difference(radiograph: Radiograph, truth: np.ndarray = CHEST) -> float:
    """Mean absolute difference from what was drawn, as a share of the grey scale."""
    return float(np.abs((radiograph.picture.astype(float) + 1024) / 2048 - truth).mean())


def with_element(data: bytes, keyword: str, value: bytes, vr: str | None = None) -> bytes:
    """A DICOM file with an element of these bytes, which pydicom would not write by itself."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    tag = Tag(keyword)
    value += b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(tag, vr or dictionary_VR(tag), len(value), value, 0, False, True)
    dataset.save_as(file := io.BytesIO(), enforce_file_format=True)
    return file.getvalue()


def with_frame(data: bytes, frame: bytes, fragments: int = 1) -> bytes:
    """A DICOM file with another encapsulated stream."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.PixelData = encapsulate([frame], fragments_per_frame=fragments)
    dataset.save_as(file := io.BytesIO(), enforce_file_format=True)
    return file.getvalue()


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    whole = kind + body
    chunk = struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))
    return png[:33] + chunk + png[33:]
