"""Signs that pixels were cut off or damaged on their way, which decoders pass over."""

import os
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from .arrays import Values
from .reading import UnusableImage, reason_of, whole_reason

END_OF_IMAGE = b"\xff\xd9"
"""The last marker of JPEG, JPEG-LS and JPEG 2000. It cannot occur in coded pixels."""
START_OF_PIXELS = (b"\xff\xda", b"\xff\x93")
"""The marker that coded pixels follow: of JPEG and JPEG-LS, and of JPEG 2000."""

LEAST_CONSTANT_ROWS = 0.02
"""Share of the rows that equal the last one from which they count as filled in by a decoder."""
NEAR_BLACK_OR_WHITE = 0.02
"""Nearer to the extremes, as a share of the range, constant rows are a collimated margin. Those of
2,894 real radiographs are nearer than 0.005."""
STEP = 0.03
"""Largest difference from the row above, as a share of the range, with which filled rows begin.
The edge of a margin that is only dark is softer."""
ABRUPT = 0.1
"""Difference from the row above, as a share of the range, with which a damaged part begins."""


SOUND_COMPLAINTS = (
    "Unsupported JPEG data precision 12",  # of the decoder for 8 bits, which is tried first
    "Invalid SOS parameters for sequential JPEG",  # in the header, of some scanners
)
"""How GDCM's complaints begin that are no sign of damage."""


def require_end_of_stream(stream: bytes) -> None:
    """Raise UnusableImage for a JPEG, JPEG-LS or JPEG 2000 stream without its end marker.

    What follows the marker is padding. A thumbnail in a header may have an end marker of its own,
    so it is looked for after the last start of pixels.
    """
    start = max(stream.rfind(marker) for marker in START_OF_PIXELS)
    if start < 0 or stream.find(END_OF_IMAGE, start) < 0:
        raise UnusableImage(
            "pixels cannot be decoded: the stream was cut off, it has no end marker"
        )


def stream_precision(stream: bytes) -> int:
    """The bits of each value that a JPEG or JPEG-LS stream states; 0 if it states none."""
    position = 2
    while stream[position : position + 1] == b"\xff" and position + 4 < len(stream):
        marker, length = stream[position + 1], int.from_bytes(stream[position + 2 : position + 4])
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return stream[position + 4]
        position += 2 + length
    return 0


def require_whole_png(data: bytes) -> None:
    """Raise UnusableImage unless all chunks of a PNG are there and have their checksum."""
    position, kind = 8, b""
    while kind != b"IEND":
        head = data[position : position + 8]
        if len(head) < 8:
            raise UnusableImage("no readable picture: the PNG was cut off, it has no end")
        length, kind = struct.unpack(">I4s", head)
        end = position + 8 + length
        checksum = data[end : end + 4]
        if len(checksum) < 4:
            raise UnusableImage("no readable picture: the PNG was cut off")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(checksum, "big"):
            raise UnusableImage(
                "no readable picture: a checksum of the PNG is wrong, it is damaged"
            )
        position = end + 4


def suspected_cut(stored: Values) -> bool:
    """Whether the lower part looks filled in, because the pixels of it were lost.

    A decoder fills what is missing with one grey, or with copies of a row, to the last row; a copy
    of a file that was interrupted has zeros from there on. A collimated margin is black or white
    too, and begins with a row; but its edge is soft, or it frames the picture on other sides too.
    """
    rows, columns = stored.shape
    same = (stored[::-1] == stored[-1]).all(axis=1)
    count = rows if same.all() else int(same.argmin())
    if count == rows or count < max(3, LEAST_CONSTANT_ROWS * rows):
        return False
    last = stored[-1].astype(np.int64)
    if (last != last[0]).any():
        return True
    low, high = int(stored.min()), int(stored.max())
    above = stored[rows - count - 1].astype(np.int64)
    near = NEAR_BLACK_OR_WHITE * (high - low)
    if low + near < last[0] < high - near:
        return bool(np.abs(above - last[0]).max() > STEP * (high - low))
    filled = columns if (above == last[0]).all() else int((above[::-1] != last[0]).argmax())
    if filled < columns / 10:
        edges = stored[0], stored[:, 0], stored[:, -1]
        framed = any((edge == last[0]).all() for edge in edges)
        return bool(not framed and np.median(np.abs(above - last[0])) > ABRUPT * (high - low))
    if rows - count < 2:
        return False
    before = stored[rows - count - 2, columns - filled :].astype(np.int64)
    return bool(np.median(np.abs(before - last[0])) > ABRUPT * (high - low))


def jpeg_complaint(stream: bytes, rows: int, columns: int, channels: int, bits: int = 8) -> str:
    """What GDCM's decoder complains of in a JPEG stream, "" if nothing.

    Pillow's decoder and that of imagecodecs fill in what is damaged, and never complain.

    Parameters
    ----------
    stream
        The JPEG file or stream.
    rows, columns, channels
        Shape of the picture.
    bits
        Bits of each value; 8, or 12 of JPEG Extended.
    """
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGBaseline8Bit

    options: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "samples_per_pixel": channels,
        "photometric_interpretation": "MONOCHROME2" if channels == 1 else "RGB",
        "planar_configuration": 0,
        "bits_allocated": 8 if bits == 8 else 16,
        "bits_stored": bits,
        "pixel_representation": 0,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "pixel_vr": "OB" if bits == 8 else "OW",
    }
    with warnings.catch_warnings(), decoder_messages() as messages:
        warnings.simplefilter("ignore")  # pydicom's, about colours
        try:
            get_decoder(JPEGBaseline8Bit).as_array(  # the stream states its own bits
                encapsulate([stream]), decoding_plugin="gdcm", raw=True, **options
            )
        except MemoryError:  # no fault of the file
            raise
        except Exception as error:  # decoders can raise nearly any exception
            messages.append(reason_of(error))
    lines = [line for message in messages for line in message.splitlines()]
    return whole_reason(next((line for line in lines if not line.startswith(SOUND_COMPLAINTS)), ""))


_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def decoder_messages() -> Iterator[list[str]]:
    """Collect what C libraries write to standard error, the only sign of some damage.

    The list has one text after the block if anything was written. Other threads that decode wait.
    """
    messages: list[str] = []
    with _ONE_AT_A_TIME:
        with suppress(Exception):
            sys.stderr.flush()
        try:
            before = os.dup(2)
        except OSError:  # the process has no standard error
            before = -1
        caught = os.memfd_create("decoder")
        try:
            os.dup2(caught, 2)
            yield messages
        finally:
            if before >= 0:
                os.dup2(before, 2)
                os.close(before)
            else:
                os.close(2)
            text = os.pread(caught, 4096, 0).decode(errors="replace").strip()
            os.close(caught)
            if text:
                messages.append(text)
