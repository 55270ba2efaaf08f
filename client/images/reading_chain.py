"""The reading chain: from a file's bytes to the network's input picture, in one function."""

import io
import warnings
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fedrad.models.settings import InputSettings

from . import dicom, geometry, lungs, warning_signs
from .arrays import Plane
from .borders import exposed_field, hidden_pixels, visible_values
from .decoding import LARGEST_IMAGE, stored_values
from .display import display_image
from .reading import ContrastScheme, Radiograph, Reading, Remark, Tags, UnusableImage

Image.MAX_IMAGE_PIXELS = LARGEST_IMAGE
SMALLEST_SIDE = 16
"""An image with fewer pixels on its shorter side is no radiograph."""


def read_radiograph(
    data: bytes, settings: InputSettings, lung_network: lungs.LungNetwork | None = None
) -> Radiograph:
    """Read a DICOM, PNG or JPEG file into the picture that the network sees.

    1. **Open** the file. Refuse everything but a single grey radiograph for display. This precedes
       decoding, because decoding a cine loop or a CT would cost minutes.
    2. **Decode** to stored values of the stated bits and sign. All later steps compute with them.
    3. **Hide** padding and shuttered pixels. They can be recognised in stored values only, and no
       later step may use them.
    4. **Modality LUT or rescale**. Windows are given in its units.
    5. **Contrast**: VOI LUT, window, or percentiles of the visible values. This is what a
       radiologist sees.
    6. **Invert MONOCHROME1**. It follows the contrast, because the window of a MONOCHROME1 image
       refers to the values before inversion.
    7. **True proportions**, before anything is measured or cropped.
    8. **Look** for signs of a wrong photometric interpretation and of a whole body.
    9. **Crop** to the lungs, at full resolution, if the experiment asks for it.
    10. **Square** by padding or centre crop, resize with antialiasing, scale to [-1024, 1024]. This
        is last, so that the picture is interpolated only once.

    PNG and JPEG hold displayed values already and enter at step 8.

    Parameters
    ----------
    data
        Content of the file.
    settings
        Size, fit and region of the picture.
    lung_network
        Segments the lungs for region = "lungs-pspnet"; the simple method is used if None.

    Returns
    -------
    Radiograph
        Picture (size, size) float16 in [-1024, 1024], and the reading.

    Raises
    ------
    UnusableImage
        With the reason, for a file that cannot be used.
    """
    if not data:
        raise UnusableImage("empty file")
    picture_file = data.startswith((b"\x89PNG", b"\xff\xd8"))
    opened = _open_picture(data) if picture_file else _open_dicom(data)
    image, remarks = opened.image, [*opened.remarks]
    if opened.tags.may_be_chest:
        field = image[exposed_field(image, None)]
        if warning_signs.suspected_inverted(field):
            remarks.append("suspected inverted")
        if warning_signs.whole_body(field):
            remarks.append("whole body")
    if settings.region != "whole":
        box = lungs.lung_box(image) if lung_network is None else lung_network.box(image)
        if box is None:
            remarks.append("no lungs found")
        else:
            image = geometry.crop(image, lungs.with_margin(box, image.shape))
    picture = geometry.square(image, settings.size, pad=settings.fit == "pad")
    reading = Reading(
        content=sha256(data).hexdigest(),
        tags=opened.tags,
        remarks=tuple(remarks),
        scheme=opened.scheme,
        pixels=opened.pixels,
        brightness=round(float(opened.visible.mean()), 5),
        contrast=round(float(opened.visible.std()), 5),
    )
    return Radiograph(picture, reading)


@dataclass(frozen=True)
class _OpenedFile:
    """A file after step 7."""

    image: Plane
    visible: Plane
    tags: Tags
    scheme: ContrastScheme
    remarks: list[Remark]
    pixels: str


def _open_dicom(data: bytes) -> _OpenedFile:
    dataset, repaired = dicom.open_dicom(data)
    dicom.require_radiograph(dataset)
    stored = stored_values(dataset)
    _refuse_blank(stored)
    mask = hidden_pixels(stored, dataset)
    shown = display_image(stored, dataset, mask)
    image = geometry.true_proportions(shown.image, dicom.height_to_width(dataset))
    noted: list[tuple[Remark, bool]] = [
        ("non-square pixels", image is not shown.image),
        (
            "burned-in annotation",
            dicom.element_text(dataset, "BurnedInAnnotation").upper() == "YES",
        ),
        ("overlay", dicom.has_overlay(dataset)),
        ("file repaired", repaired),
    ]
    return _OpenedFile(
        image=image,
        visible=visible_values(shown.image, mask),
        tags=dicom.tags(dataset),
        scheme=shown.scheme,
        remarks=[*shown.remarks, *(r for r, true in noted if true)],
        pixels=_pixel_digest(stored),
    )


GREY_TOLERANCE = 8 / 255
"""Largest difference between the colour channels of a grey picture saved in colour; white is 1."""


def _open_picture(data: bytes) -> _OpenedFile:
    """Open a PNG or JPEG. It has 8 bits, or 16 bits of which 10, 12 or 14 may be used."""
    remarks: list[Remark] = []
    try:
        with (
            warnings.catch_warnings(),
            Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as file,
        ):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            grey, from_colours = _one_channel(data, file)
            values = np.asarray(ImageOps.exif_transpose(grey))
            if from_colours:
                remarks.append("colour picture")
    except (UnusableImage, MemoryError):  # lack of memory is no fault of the file
        raise
    except Exception as error:  # Pillow can raise nearly any exception for a broken file
        raise UnusableImage(f"no readable picture: {type(error).__name__}") from error
    _refuse_blank(values)
    bits = 8 if values.dtype == np.uint8 else 16
    if bits == 16:
        used = next(n for n in (10, 12, 14, 16) if n == 16 or int(values.max()) < 2**n)
        if used < bits:
            bits = used
            remarks.append("fewer bits used")
    image = np.clip(np.asarray(values, np.float32) / np.float32(2**bits - 1), 0, 1)
    rows, columns = image.shape
    return _OpenedFile(
        image=image,
        visible=np.asarray(visible_values(image, None)),
        tags=Tags(rows=rows, columns=columns, bits=bits),
        scheme="as stored",
        remarks=remarks,
        pixels=_pixel_digest(values),
    )


def _one_channel(data: bytes, file: Image.Image) -> tuple[Image.Image, bool]:
    """The picture as one grey channel of 8 or 16 bits without transparency, and whether it was
    stored in colour. Raises UnusableImage if the colour channels differ."""
    colours: NDArray[Any]
    # Header of a PNG: byte 24 is the bit depth; byte 25 is 2 for colour, 4 for grey with
    # transparency, 6 for colour with transparency.
    if file.format == "PNG" and data[24] == 16 and data[25] in (2, 4, 6):
        import imagecodecs  # Pillow keeps 8 of the 16 bits

        colours = imagecodecs.png_decode(data)[..., : 1 if data[25] == 4 else 3]
    elif file.mode.startswith("I"):
        return file, False
    elif file.mode in ("L", "LA", "1"):
        return file.convert("L"), False
    else:
        colours = np.asarray(file.convert("RGB"))
    if (
        int((colours.max(axis=2) - colours.min(axis=2)).max())
        > GREY_TOLERANCE * np.iinfo(colours.dtype).max
    ):
        raise UnusableImage("a colour image")
    grey = Image.fromarray(colours.mean(axis=2).round().astype(colours.dtype))
    grey.info = file.info  # holds the orientation
    return grey, colours.shape[2] > 1


def _refuse_blank(values: NDArray[Any]) -> None:
    if min(values.shape) < SMALLEST_SIDE:
        raise UnusableImage(f"an image of {values.shape[0]} x {values.shape[1]} pixels")
    if values.min() == values.max():
        raise UnusableImage("all pixels are equal")


def _pixel_digest(values: NDArray[Any]) -> str:
    """SHA-256 of shape and values, independent of the data type."""
    total = sha256(repr(values.shape).encode())
    total.update(np.ascontiguousarray(values, "<i4").tobytes())
    return total.hexdigest()
