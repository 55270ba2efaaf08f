"""The whole way from a file's bytes to the picture the network sees, in one function."""

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
from .borders import exposed_field, hidden, in_view
from .decoding import LARGEST, stored_values
from .display import show
from .reading import Radiograph, Reading, Remark, Scheme, Tags, UnusableImage

Plane = NDArray[np.float32]

Image.MAX_IMAGE_PIXELS = LARGEST
SMALLEST = 16
"""Pixels of the shorter side below which there is no radiograph."""


def read_radiograph(
    data: bytes, settings: InputSettings, lung_network: lungs.LungNetwork | None = None
) -> Radiograph:
    """The picture of a DICOM, PNG or JPEG file, (size, size) float16 in [-1024, 1024].

    1. **Open** the file and refuse what is no single grey radiograph for display, before any
       pixel is touched: decoding a film loop or a CT to find out would cost minutes.
    2. **Decode** to stored values, of the stated bits and sign: all that follows is arithmetic on
       them.
    3. **Hide** padding and shuttered pixels. They are known in stored values only, and no later
       step may learn from them.
    4. **Modality LUT or rescale**: windows are given in its units.
    5. **Contrast**: VOI LUT, window, or percentiles of what lies in view. What a radiologist sees.
    6. **Invert MONOCHROME1**: it turns what is shown, so it follows the contrast (a window of a
       MONOCHROME1 image is in its own values).
    7. **True proportions**, before anything is measured or cut by shape.
    8. **Look** for warning_signs of a wrong photometric interpretation and of a whole body.
    9. **Crop** to the lungs where the experiment asks for it, on full resolution.
    10. **Square** by padding or centre crop, resize with antialiasing, scale to [-1024, 1024]:
        last, so that the picture is interpolated once.

    PNG and JPEG hold what is shown already and enter at step 8. `lung_network` finds the lungs
    for region = "lungs-pspnet". Raises UnusableImage with the reason.
    """
    if not data:
        raise UnusableImage("empty file")
    picture_file = data.startswith((b"\x89PNG", b"\xff\xd8"))
    seen = _open_picture(data) if picture_file else _open_dicom(data)
    image, remarks = seen.image, [*seen.remarks]
    if seen.tags.may_be_chest:
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
        tags=seen.tags,
        remarks=tuple(remarks),
        scheme=seen.scheme,
        pixels=seen.pixels,
        brightness=round(float(seen.in_view.mean()), 5),
        contrast=round(float(seen.in_view.std()), 5),
    )
    return Radiograph(picture, reading)


@dataclass(frozen=True)
class _Seen:
    """A file after step 7."""

    image: Plane
    in_view: Plane
    tags: Tags
    scheme: Scheme
    remarks: list[Remark]
    pixels: str


def _open_dicom(data: bytes) -> _Seen:
    dataset, repaired = dicom.open_dicom(data)
    dicom.refuse_if_no_radiograph(dataset)
    stored = stored_values(dataset)
    _refuse_if_even(stored)
    mask = hidden(stored, dataset)
    shown = show(stored, dataset, mask)
    image = geometry.true_proportions(shown.image, dicom.height_to_width(dataset))
    noted: list[tuple[Remark, bool]] = [
        ("non-square pixels", image is not shown.image),
        ("burned-in annotation", dicom.text(dataset, "BurnedInAnnotation").upper() == "YES"),
        ("overlay", dicom.has_overlay(dataset)),
        ("file repaired", repaired),
    ]
    return _Seen(
        image=image,
        in_view=in_view(shown.image, mask),
        tags=dicom.tags(dataset),
        scheme=shown.scheme,
        remarks=[*shown.remarks, *(r for r, true in noted if true)],
        pixels=_identity(stored),
    )


GREY = 8 / 255
"""Largest difference of colour channels (1 is white) in a grey picture that was saved as colour."""


def _open_picture(data: bytes) -> _Seen:
    """A PNG or JPEG holds what is shown: 8 bits, or 16 of which 10, 12 or 14 may be used."""
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
    except (UnusableImage, MemoryError):  # the latter says nothing about the file
        raise
    except Exception as error:  # a broken file makes Pillow raise nearly anything
        raise UnusableImage(f"no readable picture: {type(error).__name__}") from error
    _refuse_if_even(values)
    bits = 8 if values.dtype == np.uint8 else 16
    if bits == 16:
        used = next(n for n in (10, 12, 14, 16) if n == 16 or int(values.max()) < 2**n)
        if used < bits:
            bits = used
            remarks.append("fewer bits used")
    image = np.clip(np.asarray(values, np.float32) / np.float32(2**bits - 1), 0, 1)
    rows, columns = image.shape
    return _Seen(
        image=image,
        in_view=np.asarray(in_view(image, None)),
        tags=Tags(rows=rows, columns=columns, bits=bits),
        scheme="as stored",
        remarks=remarks,
        pixels=_identity(values),
    )


def _one_channel(data: bytes, file: Image.Image) -> tuple[Image.Image, bool]:
    """The picture in one grey channel of 8 or 16 bits without transparency, and whether it was
    stored as colour. Raises UnusableImage where colours differ."""
    colours: NDArray[Any]
    # Of a PNG's header: bits, and 2, 4 or 6 for colour, grey with transparency, both.
    if file.format == "PNG" and data[24] == 16 and data[25] in (2, 4, 6):
        import imagecodecs  # Pillow keeps 8 of the 16 bits

        colours = imagecodecs.png_decode(data)[..., : 1 if data[25] == 4 else 3]
    elif file.mode.startswith("I"):
        return file, False
    elif file.mode in ("L", "LA", "1"):
        return file.convert("L"), False
    else:
        colours = np.asarray(file.convert("RGB"))
    if int((colours.max(axis=2) - colours.min(axis=2)).max()) > GREY * np.iinfo(colours.dtype).max:
        raise UnusableImage("a colour image")
    grey = Image.fromarray(colours.mean(axis=2).round().astype(colours.dtype))
    grey.info = file.info  # which says how the picture is turned
    return grey, colours.shape[2] > 1


def _refuse_if_even(values: NDArray[Any]) -> None:
    if min(values.shape) < SMALLEST:
        raise UnusableImage(f"an image of {values.shape[0]} x {values.shape[1]} pixels")
    if values.min() == values.max():
        raise UnusableImage("all pixels are equal")


def _identity(values: NDArray[Any]) -> str:
    """SHA-256 of shape and values, whatever type holds them."""
    total = sha256(repr(values.shape).encode())
    total.update(np.ascontiguousarray(values, "<i4").tobytes())
    return total.hexdigest()
