"""From encoded to stored pixel values: one stated decoder per transfer syntax, none in reserve.

pydicom reads what needs no codec and RLE; python-gdcm (BSD) the JPEG family; OpenJPEG (BSD,
through pylibjpeg-openjpeg) JPEG 2000; imagecodecs (BSD) what neither of them reads.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array

from .dicom import number
from .reading import UnusableImage

Stored = NDArray[np.integer[Any]]

LARGEST = 100_000_000
"""Pixels of an image above which it is no radiograph but a broken header (the largest detectors
have about 20 million)."""

PLUGINS: dict[str, str] = {
    uid.ImplicitVRLittleEndian: "",
    uid.ExplicitVRLittleEndian: "",
    uid.DeflatedExplicitVRLittleEndian: "",
    uid.ExplicitVRBigEndian: "",
    uid.RLELossless: "pydicom",
    uid.JPEGBaseline8Bit: "gdcm",
    uid.JPEGLossless: "gdcm",
    uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "gdcm",
    uid.JPEGLSNearLossless: "gdcm",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
}
"""Transfer syntax -> decoder of pydicom ("" where nothing is encoded)."""

CELLS = {syntax for syntax, plugin in PLUGINS.items() if not plugin} | {uid.RLELossless}
"""Transfer syntaxes that keep whole cells, with whatever is in their unused bits."""

JPEG_2000 = {syntax for syntax, plugin in PLUGINS.items() if plugin == "pylibjpeg"}
"""Transfer syntaxes whose streams say themselves whether their values are signed."""

IMAGECODECS: dict[str, str] = {
    uid.JPEGExtended12Bit: "jpeg_decode",
    "1.2.840.10008.1.2.4.53": "jpeg_decode",  # spectral selection, retired
    "1.2.840.10008.1.2.4.55": "jpeg_decode",  # full progression, retired
    "1.2.840.10008.1.2.4.110": "jpegxl_decode",  # JPEG XL lossless
    "1.2.840.10008.1.2.4.111": "jpegxl_decode",  # JPEG XL from JPEG
    "1.2.840.10008.1.2.4.112": "jpegxl_decode",  # JPEG XL
}
"""Transfer syntax -> function of imagecodecs."""


def stored_values(dataset: Dataset) -> Stored:
    """Stored values, (rows, columns), of BitsStored bits and the sign the file states.

    Raises UnusableImage: a transfer syntax without decoder, broken or missing pixels, a header
    that does not describe them.
    """
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    rows, columns = number(dataset, "Rows"), number(dataset, "Columns")
    if not (rows >= 1 and columns >= 1 and rows * columns <= LARGEST):
        raise UnusableImage(f"an image of {rows:.0f} x {columns:.0f} pixels")
    decode: Callable[[Dataset], Stored]
    if syntax in IMAGECODECS:
        decode = _with_imagecodecs
    elif syntax in PLUGINS:
        decode = _with_pydicom
    else:
        raise UnusableImage(f"no decoder for transfer syntax {uid.UID(syntax).name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = decode(dataset)
    except (UnusableImage, MemoryError):  # the latter says nothing about the file
        raise
    except Exception as error:  # decoders raise nearly anything
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise UnusableImage(f"pixels cannot be decoded: {first[:200]}") from error
    if stored.shape != (rows, columns):
        shape = " x ".join(map(str, stored.shape))
        raise UnusableImage(f"the header says {rows:.0f} x {columns:.0f} pixels, there are {shape}")
    if syntax in CELLS:
        return _stored_bits(stored, dataset, high_bit=number(dataset, "HighBit"))
    if number(dataset, "PixelRepresentation") == 1 and syntax not in JPEG_2000:
        # JPEG knows no sign: what it holds is the stored bits of a negative value.
        return _stored_bits(stored.view(f"i{stored.dtype.itemsize}"), dataset)
    return stored


def _with_pydicom(dataset: Dataset) -> Stored:
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    # pydicom drops unused bits as if they were always the upper ones: cells are taken untouched.
    decoded: Stored = pixel_array(
        dataset, decoding_plugin=PLUGINS[syntax], correct_unused_bits=syntax not in CELLS
    )
    return decoded


def _with_imagecodecs(dataset: Dataset) -> Stored:
    import imagecodecs

    decode: Any = getattr(imagecodecs, IMAGECODECS[str(dataset.file_meta.TransferSyntaxUID)])
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    decoded: Stored = decode(frame)
    return decoded


def _stored_bits(stored: Stored, dataset: Dataset, high_bit: float = -1) -> Stored:
    """Only the stored bits of each cell, up to `high_bit` (where that is possible, else the lowest
    ones), sign-extended where cells are signed: old files keep overlays or rubbish in the others
    (PS3.5, 8.1.1). Decoders of compressed pixels give the stored bits alone."""
    allocated, bits = stored.dtype.itemsize * 8, int(number(dataset, "BitsStored"))
    high = int(high_bit) if bits - 1 <= high_bit < allocated else bits - 1
    if not 1 <= bits < allocated:
        return stored
    left, right = allocated - 1 - high, allocated - bits
    cells: NDArray[np.integer[Any]] = stored.astype(stored.dtype.newbyteorder("="))
    kept: Stored = np.right_shift(np.left_shift(cells, left), right)
    return kept
