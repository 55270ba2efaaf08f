"""From encoded to stored pixel values, with one fixed decoder for each transfer syntax.

pydicom reads uncompressed pixels and RLE, python-gdcm (BSD) the JPEG family, OpenJPEG (BSD,
through pylibjpeg-openjpeg) JPEG 2000, and imagecodecs (BSD) the rest.
"""

import re
import warnings
from collections.abc import Callable
from math import isnan
from typing import Any

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array

from .damage import decoder_messages, jpeg_complaint, require_end_of_stream, stream_precision
from .elements import element_number
from .reading import UnusableImage, reason_of, whole_reason
from .stored_pixels import StoredPixels, StoredValues, cell_pixels, stream_pixels

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

END_MARKED_SYNTAXES = {
    syntax
    for syntax in (*PYDICOM_PLUGINS, *IMAGECODECS_FUNCTIONS)
    if syntax not in WHOLE_CELL_SYNTAXES and IMAGECODECS_FUNCTIONS.get(syntax) != "jpegxl_decode"
}
"""Transfer syntaxes whose streams end with a marker: JPEG, JPEG-LS and JPEG 2000."""


SOUND_WARNINGS = (
    "The pixel data is",  # longer than stated, which `_require_length` judges
    "The number of bytes of pixel data is sufficient to contain",
    "The number of bytes of compressed pixel data matches the expected number for uncompressed",
    "The number of items in (7FE0,0001) 'Extended Offset Table'",
    "A value of",  # '0' for the number of frames
)
"""How pydicom's warnings begin that are no sign of damage."""


def stored_pixels(dataset: Dataset) -> StoredPixels:
    """Stored values, (rows, columns), with the bits and the sign that they have.

    Raises UnusableImage for a transfer syntax without decoder, for broken, cut or missing pixels,
    and for a header that does not match the pixels.
    """
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    rows, columns = _stated_size(dataset)
    decode: Callable[[Dataset], StoredValues]
    if syntax in IMAGECODECS_FUNCTIONS:
        decode = _with_imagecodecs
    elif syntax in PYDICOM_PLUGINS:
        decode = _with_pydicom
    else:
        raise UnusableImage(f"no decoder for transfer syntax {uid.UID(syntax).name}")
    try:
        _require_length(dataset, syntax)
        if IMAGECODECS_FUNCTIONS.get(syntax) == "jpeg_decode":
            _require_undamaged(_frame(dataset), int(rows), int(columns))
        with warnings.catch_warnings(record=True) as warned, decoder_messages() as messages:
            warnings.simplefilter("always")
            stored = decode(dataset)
    except (UnusableImage, MemoryError):  # lack of memory is no fault of the file
        raise
    except Exception as error:  # decoders can raise nearly any exception
        raise UnusableImage(f"pixels cannot be decoded: {reason_of(error)}") from error
    messages += [str(w.message) for w in warned if issubclass(w.category, UserWarning)]
    for message in messages:
        if not _is_sound(message):
            raise UnusableImage(f"pixels cannot be decoded: {whole_reason(message)}")
    if stored.shape != (rows, columns):
        shape = " x ".join(map(str, stored.shape))
        raise UnusableImage(f"the header says {rows:.0f} x {columns:.0f} pixels, there are {shape}")
    if syntax in WHOLE_CELL_SYNTAXES:
        return cell_pixels(stored, dataset)
    if syntax not in JPEG_2000_SYNTAXES:
        stored = stored.view(f"u{stored.dtype.itemsize}")
    return stream_pixels(stored, dataset)


def _is_sound(message: str) -> bool:
    padded = re.search(r"RLE segment contains non-conformant padding - (\d+) vs. (\d+)", message)
    if padded is not None:  # segments have an even length
        return int(padded[1]) - int(padded[2]) <= 2
    return message.startswith(SOUND_WARNINGS)


def _require_length(dataset: Dataset, syntax: str) -> None:
    """Raise UnusableImage if the header describes less pixels than there are, or a stream was cut.

    Zeros after uncompressed pixels are padding.
    """
    if syntax in END_MARKED_SYNTAXES:
        require_end_of_stream(_frame(dataset))
    elif syntax in WHOLE_CELL_SYNTAXES and syntax != uid.RLELossless:
        row = (
            int(element_number(dataset, "Columns") * element_number(dataset, "BitsAllocated")) // 8
        )
        rest = dataset.PixelData[row * int(element_number(dataset, "Rows")) :]
        if len(rest) > max(row, 1) and rest.strip(b"\0"):
            raise UnusableImage(
                "the header says fewer pixels, or fewer bits of each, than there are: "
                f"{len(rest)} bytes are left over"
            )


def _require_undamaged(jpeg: bytes, rows: int, columns: int) -> None:
    complaint = jpeg_complaint(jpeg, rows, columns, 1, stream_precision(jpeg) or 8)
    if complaint:
        raise UnusableImage(f"pixels cannot be decoded: {complaint}")


def _frame(dataset: Dataset) -> bytes:
    """The stream of the only frame, which may lie in several fragments."""
    frame: bytes = next(generate_frames(dataset.PixelData, number_of_frames=1))
    return frame


def _stated_size(dataset: Dataset) -> tuple[float, float]:
    """Rows and columns by the header. Raises UnusableImage for no size, or an impossible one."""
    rows, columns = element_number(dataset, "Rows"), element_number(dataset, "Columns")
    if isnan(rows) or isnan(columns):
        raise UnusableImage("Rows or Columns is not in the header")
    if not (rows >= 1 and columns >= 1 and rows * columns <= LARGEST_IMAGE):
        raise UnusableImage(f"an image of {rows:.0f} x {columns:.0f} pixels")
    return rows, columns


def _with_pydicom(dataset: Dataset) -> StoredValues:
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    # pydicom takes Bits Stored for right, and the unused bits for the upper ones: not corrected.
    options: dict[str, Any] = {"correct_unused_bits": False}
    if PYDICOM_PLUGINS[syntax] == "gdcm":
        # GDCM gives wrong values if it is told fewer bits than the stream has.
        precision = stream_precision(_frame(dataset))
        options["bits_stored"] = max(precision, int(element_number(dataset, "BitsStored")))
    decoded: StoredValues = pixel_array(dataset, decoding_plugin=PYDICOM_PLUGINS[syntax], **options)
    return decoded


def _with_imagecodecs(dataset: Dataset) -> StoredValues:
    import imagecodecs

    decode: Any = getattr(
        imagecodecs, IMAGECODECS_FUNCTIONS[str(dataset.file_meta.TransferSyntaxUID)]
    )
    decoded: StoredValues = decode(_frame(dataset))
    return decoded
