"""Radiographs written for tests: stored values whose true picture is known, as DICOM bytes."""

import io
from typing import Any

import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import encapsulate

JPEG_XL = "1.2.840.10008.1.2.4.11"
RAMP = np.tile(np.linspace(0, 1, 64), (64, 1))
"""The true picture, (64, 64) in [0, 1]: black on the left, white on the right."""


def stored_ramp(bits: int, signed: bool = False) -> np.ndarray:
    """The ramp over all values of so many bits."""
    return (RAMP * (2**bits - 1)).round().astype(np.int64) - (2 ** (bits - 1) if signed else 0)


def dicom(
    stored: np.ndarray,
    *,
    bits: int = 12,
    signed: bool = False,
    allocated: int | None = None,
    high_bit: int | None = None,
    rubbish: bool = False,
    syntax: str = uid.ExplicitVRLittleEndian,
    stream: bytes | None = None,
    **tags: Any,
) -> bytes:
    """A CR image of stored values. `rubbish` fills the unused bits of each cell; `stream` is what
    is encapsulated for an encoded transfer syntax."""
    allocated = allocated or (8 if bits == 8 else 16)
    high_bit = bits - 1 if high_bit is None else high_bit
    used = (2**bits - 1) << (high_bit - bits + 1)
    cells = ((stored.astype(np.int64) & (2**bits - 1)) << (high_bit - bits + 1)) & used
    if rubbish:
        noise = np.random.default_rng(1).integers(0, 2**allocated, stored.shape)
        cells |= noise & ~used & (2**allocated - 1)
    elif signed and high_bit == bits - 1:
        cells = stored.astype(np.int64) & (2**allocated - 1)
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    unknown = syntax.startswith(JPEG_XL)  # pydicom does not write what it does not know
    ds.file_meta.TransferSyntaxUID = uid.HTJ2KLossless if unknown else uid.UID(syntax)
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    ds.Modality, ds.PhotometricInterpretation, ds.SamplesPerPixel = "CR", "MONOCHROME2", 1
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits, high_bit
    ds.PixelRepresentation = int(signed)
    for tag, value in tags.items():
        setattr(ds, tag, value)
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    raw = cells.astype(f"{order}u{allocated // 8}").tobytes()
    if "PixelData" not in tags:
        ds.PixelData = raw if stream is None else encapsulate([stream])
        ds["PixelData"].VR = "OB" if stream is not None or allocated == 8 else "OW"
    if syntax == uid.RLELossless and stream is None:
        ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        ds.compress(uid.RLELossless, generate_instance_uid=False)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    data = file.getvalue()
    return data.replace(uid.HTJ2KLossless.encode(), syntax.encode()) if unknown else data


def full_window(stored: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> dict[str, Any]:
    """The window that shows the smallest value black and the largest white."""
    low, high = (float(v) * slope + intercept for v in (stored.min(), stored.max()))
    return {"WindowCenter": (low + high + 1) / 2, "WindowWidth": high - low + 1}
