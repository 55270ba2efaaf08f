"""From encoded to stored pixel values, with one fixed decoder for each transfer syntax.

pydicom reads uncompressed pixels and RLE, python-gdcm (BSD) the JPEG family, OpenJPEG (BSD,
through pylibjpeg-openjpeg) JPEG 2000, and imagecodecs (BSD) the rest.
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

from .dicom import element_number
from .reading import UnusableImage

StoredValues = NDArray[np.integer[Any]]

LARGEST_IMAGE = 100_000_000
"""Largest number of pixels. More than this is a broken header: the largest detectors have about
20 million."""

PYDICOM_PLUGINS: dict[str, str] = {
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
"""Transfer syntax -> decoding plugin of pydicom ("" for uncompressed pixels)."""

WHOLE_CELL_SYNTAXES = {syntax for syntax, plugin in PYDICOM_PLUGINS.items() if not plugin} | {
    uid.RLELossless
}
"""Transfer syntaxes that store whole pixel cells, including their unused bits (PS3.5, 8.1.1)."""

JPEG_2000_SYNTAXES = {syntax for syntax, plugin in PYDICOM_PLUGINS.items() if plugin == "pylibjpeg"}
"""Transfer syntaxes whose code streams state whether their values are signed."""

IMAGECODECS_FUNCTIONS: dict[str, str] = {
    uid.JPEGExtended12Bit: "jpeg_decode",
    "1.2.840.10008.1.2.4.53": "jpeg_decode",  # spectral selection, retired
    "1.2.840.10008.1.2.4.55": "jpeg_decode",  # full progression, retired
    "1.2.840.10008.1.2.4.110": "jpegxl_decode",  # JPEG XL lossless
    "1.2.840.10008.1.2.4.111": "jpegxl_decode",  # JPEG XL from JPEG
    "1.2.840.10008.1.2.4.112": "jpegxl_decode",  # JPEG XL
}
"""Transfer syntax -> function of imagecodecs."""


def stored_values(dataset: Dataset) -> StoredValues:
    """Stored values, (rows, columns), with BitsStored bits and the sign that the file states.

    Raises UnusableImage for a transfer syntax without decoder, for broken or missing pixels, and
    for a header that does not match the pixels.
    """
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    rows, columns = element_number(dataset, "Rows"), element_number(dataset, "Columns")
    if not (rows >= 1 and columns >= 1 and rows * columns <= LARGEST_IMAGE):
        raise UnusableImage(f"an image of {rows:.0f} x {columns:.0f} pixels")
    decode: Callable[[Dataset], StoredValues]
    if syntax in IMAGECODECS_FUNCTIONS:
        decode = _with_imagecodecs
    elif syntax in PYDICOM_PLUGINS:
        decode = _with_pydicom
    else:
        raise UnusableImage(f"no decoder for transfer syntax {uid.UID(syntax).name}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = decode(dataset)
    except (UnusableImage, MemoryError):  # lack of memory is no fault of the file
        raise
    except Exception as error:  # decoders can raise nearly any exception
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise UnusableImage(f"pixels cannot be decoded: {first[:200]}") from error
    if stored.shape != (rows, columns):
        shape = " x ".join(map(str, stored.shape))
        raise UnusableImage(f"the header says {rows:.0f} x {columns:.0f} pixels, there are {shape}")
    if syntax in WHOLE_CELL_SYNTAXES:
        return _stored_bits(stored, dataset, high_bit=element_number(dataset, "HighBit"))
    if element_number(dataset, "PixelRepresentation") == 1 and syntax not in JPEG_2000_SYNTAXES:
        # JPEG has no signed values: it holds the stored bits of a negative value.
        return _stored_bits(stored.view(f"i{stored.dtype.itemsize}"), dataset)
    return stored


def _with_pydicom(dataset: Dataset) -> StoredValues:
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    # pydicom assumes that the unused bits are always the upper ones, so its correction is off.
    decoded: StoredValues = pixel_array(
        dataset,
        decoding_plugin=PYDICOM_PLUGINS[syntax],
        correct_unused_bits=syntax not in WHOLE_CELL_SYNTAXES,
    )
    return decoded


def _with_imagecodecs(dataset: Dataset) -> StoredValues:
    import imagecodecs

    decode: Any = getattr(
        imagecodecs, IMAGECODECS_FUNCTIONS[str(dataset.file_meta.TransferSyntaxUID)]
    )
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    decoded: StoredValues = decode(frame)
    return decoded


def _stored_bits(stored: StoredValues, dataset: Dataset, high_bit: float = -1) -> StoredValues:
    """Only the stored bits of each pixel cell, sign-extended if the cells are signed.

    Old files hold overlays or rubbish in the other bits (PS3.5, 8.1.1). `high_bit` is the position
    of the highest stored bit; if it is impossible, the lowest bits are taken. Decoders of
    compressed pixels return the stored bits alone.
    """
    allocated, bits = stored.dtype.itemsize * 8, int(element_number(dataset, "BitsStored"))
    high = int(high_bit) if bits - 1 <= high_bit < allocated else bits - 1
    if not 1 <= bits < allocated:
        return stored
    left, right = allocated - 1 - high, allocated - bits
    cells: NDArray[np.integer[Any]] = stored.astype(stored.dtype.newbyteorder("="))
    bits_alone: StoredValues = np.right_shift(np.left_shift(cells, left), right)
    return bits_alone
