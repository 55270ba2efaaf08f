"""PNG and JPEG files as displayed images."""

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from .contrast import Contrast
from .damage import jpeg_complaint, require_end_of_stream, require_whole_png
from .decoding import LARGEST_IMAGE
from .reading import Remark, UnusableImage, reason_of
from .stored_pixels import require_byte_order

Image.MAX_IMAGE_PIXELS = LARGEST_IMAGE

SIGNATURES = (b"\x89PNG", b"\xff\xd8")
"""How PNG and JPEG files begin."""

GREY_TOLERANCE = 8 / 255
"""Largest difference between the colour channels of a grey picture saved in colour; white is 1."""

SCREEN_GAMMA = (0.44, 0.46)
"""The gamma (gAMA) of a PNG that is to be shown as it is stored, about 1/2.2."""


def picture_values(data: bytes) -> tuple[NDArray[Any], list[Contrast], list[Remark]]:
    """The grey values of a PNG or JPEG, (rows, columns) of 8 or 16 bits, the contrast in which they
    are to be shown, and remarks.

    8 bits are displayed values. 16 bits mostly hold 10 to 15 bits of a detector, and nothing says
    which: unless the file states its significant bits (sBIT), it has no contrast of its own.

    Raises
    ------
    UnusableImage
        If the file is broken, cut off, damaged, or in colour.
    """
    remarks: list[Remark] = []
    # Other libraries in the process may set this, which fills up what is missing.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        if data.startswith(SIGNATURES[0]):
            require_whole_png(data)
        else:
            require_end_of_stream(data)
        with (
            warnings.catch_warnings(),
            Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as file,
        ):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if file.mode in ("L", "RGB") and file.format == "JPEG":
                shape = file.height, file.width, len(file.getbands())
                if complaint := jpeg_complaint(data, *shape):
                    raise UnusableImage(f"no readable picture: {complaint}")
            grey, from_colours = _one_channel(data, file)
            values = np.asarray(ImageOps.exif_transpose(grey))
            require_byte_order(values, values)
            if from_colours:
                remarks.append("colour picture")
            if _transparent(file) or not _on_screens(file.info.get("gamma")):
                remarks.append("transparency or gamma")
    except (UnusableImage, MemoryError):  # lack of memory is no fault of the file
        raise
    except Exception as error:  # Pillow can raise nearly any exception for a broken file
        raise UnusableImage(f"no readable picture: {reason_of(error)}") from error
    white = 255 if values.dtype == np.uint8 else _white_of_16_bits(data, values)
    if white is None:
        remarks.append("contrast from the values")
        return values, [], remarks
    return values, [("as stored", lambda v: np.clip(v / np.float32(white), 0, 1))], remarks


def _white_of_16_bits(data: bytes, values: NDArray[Any]) -> int | None:
    """The value of white by the significant bits that a PNG states; None if it states none.

    By the standard the significant bits are the upper ones. Some writers leave them in the lower.
    """
    start = data.find(b"sBIT", 33, data.find(b"IDAT"))
    if start < 0:
        return None
    bits = data[start + 4]
    return 2**bits - 1 if 1 <= bits < 16 and int(values.max()) < 2**bits else 65535


def _one_channel(data: bytes, file: Image.Image) -> tuple[Image.Image, bool]:
    """The picture as one grey channel of 8 or 16 bits without transparency, and whether it was
    stored in colour. Raises UnusableImage if the colour channels differ."""
    colours: NDArray[Any]
    # Header of a PNG: byte 24 is the bit depth; byte 25 is 2 for colour, 4 for grey with
    # transparency, 6 for colour with transparency.
    if file.format == "PNG" and data[24] == 16 and data[25] in (2, 4, 6):
        import imagecodecs  # Pillow keeps 8 of the 16 bits

        file.load()
        colours = imagecodecs.png_decode(data)[..., : 1 if data[25] == 4 else 3]
    elif file.mode.startswith("I"):
        return file, False
    elif file.mode in ("L", "LA", "1"):
        return file.convert("L"), False
    elif file.mode == "CMYK":
        raise UnusableImage("a picture in the colours of a printer (CMYK)")
    else:
        colours = np.asarray(file.convert("RGB"))
    spread = colours.max(axis=2).astype(np.int64) - colours.min(axis=2)
    if int(spread.max()) > GREY_TOLERANCE * np.iinfo(colours.dtype).max:
        raise UnusableImage("a colour image")
    grey = Image.fromarray(colours.mean(axis=2).round().astype(colours.dtype))
    grey.info = file.info  # holds the orientation
    return grey, colours.shape[2] > 1


def _transparent(file: Image.Image) -> bool:
    """Whether a pixel is not opaque."""
    if not file.has_transparency_data:
        return False
    if file.mode.startswith("I"):
        return bool((np.asarray(file) == file.info["transparency"]).any())
    return int(np.asarray(file.convert("RGBA"))[..., 3].min()) < 255


def _on_screens(gamma: float | None) -> bool:
    return gamma is None or SCREEN_GAMMA[0] <= gamma <= SCREEN_GAMMA[1]
