"""The reading chain: from a file's bytes to the network's input picture, in one function."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrad.models.settings import InputSettings

from . import dicom, geometry, lungs, warning_signs
from .arrays import Box, Plane
from .borders import exposed_field, hidden_pixels, shutter_unreadable, values_inside
from .contrast import show
from .damage import suspected_cut
from .decoding import stored_pixels
from .display import display_image
from .picture_files import SIGNATURES, picture_values
from .reading import ContrastScheme, Radiograph, Reading, Remark, Tags, UnusableImage

SMALLEST_SIDE = 16
"""An image with fewer pixels on its shorter side is no radiograph."""


def read_radiograph(
    data: bytes, settings: InputSettings, lung_network: lungs.LungNetwork | None = None
) -> Radiograph:
    """Read a DICOM, PNG or JPEG file into the picture that the network sees.

    1. **Open** the file. Refuse everything but a single grey radiograph for display. This precedes
       decoding, because decoding a cine loop or a CT would cost minutes.
    2. **Decode** to stored values of the stated bits and sign, or of those that the values
       evidently have. All later steps compute with them. A stream that was cut or that a decoder
       complains of is set aside.
    3. **Hide** padding and shuttered pixels. They can be recognised in stored values only, and no
       later step may use them.
    4. **Modality LUT or rescale**. Windows are given in its units.
    5. **Contrast**: VOI LUT, window, or percentiles of the visible values. This is what a
       radiologist sees. A window in which the body would be dark, bright, flat, or all black and
       white was made for other pixels and is not used.
    6. **Invert MONOCHROME1**. It follows the contrast, because the window of a MONOCHROME1 image
       refers to the values before inversion.
    7. **True proportions**, before anything is measured or cropped.
    8. **Look** for signs of a wrong photometric interpretation and of a whole body.
    9. **Crop** to the lungs, at full resolution, if the experiment asks for it.
    10. **Square** by padding or centre crop, resize with antialiasing, scale to [-1024, 1024]. This
        is last, so that the picture is interpolated only once.

    PNG and JPEG hold displayed values of true proportions, so that of these steps only 1, 2 and 5
    come before step 8. They are shown as they are stored, if they can be looked at so. Of 16 bits
    nothing says which values are black and white, so percentiles are used.

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
    opened = _open_picture(data) if data.startswith(SIGNATURES) else _open_dicom(data)
    image, remarks = opened.image, [*opened.remarks]
    if opened.tags.may_be_chest:
        field = image[opened.field or exposed_field(image, None)]
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
        span=opened.span,
    )
    return Radiograph(picture, reading)


@dataclass(frozen=True)
class _OpenedFile:
    """A file after step 7."""

    image: Plane
    field: Box | None
    """Exposed field of `image`; None if it is not known."""
    visible: Plane
    tags: Tags
    scheme: ContrastScheme
    remarks: list[Remark]
    pixels: str
    span: float


def _open_dicom(data: bytes) -> _OpenedFile:
    dataset, repaired = dicom.open_dicom(data)
    dicom.require_radiograph(dataset)
    stored = stored_pixels(dataset)
    _refuse_blank(stored.values)
    mask = hidden_pixels(stored, dataset)
    displayed = display_image(stored, dataset, mask)
    shown = displayed.shown
    image = geometry.true_proportions(shown.image, dicom.height_to_width(dataset))
    noted: list[tuple[Remark, bool]] = [
        ("non-square pixels", image is not shown.image),
        ("burned-in annotation", dicom.burned_in(dataset)),
        ("overlay", dicom.has_overlay(dataset)),
        ("shutter unreadable", shutter_unreadable(dataset)),
        ("suspected cut", suspected_cut(stored.values)),
        ("file repaired", repaired),
    ]
    return _OpenedFile(
        image=image,
        field=shown.field if mask is None and image is shown.image else None,
        visible=values_inside(shown.image, shown.field, mask),
        tags=dicom.tags(dataset),
        scheme=shown.scheme,
        remarks=[*stored.remarks, *displayed.remarks, *(r for r, true in noted if true)],
        pixels=_pixel_digest(stored.values),
        span=shown.span,
    )


def _open_picture(data: bytes) -> _OpenedFile:
    values, contrasts, remarks = picture_values(data)
    _refuse_blank(values)
    shown = show(np.asarray(values, np.float32), contrasts, None)
    if shown.poor or (contrasts and shown.scheme == "percentiles"):
        remarks.append("dark or flat")
    if suspected_cut(values):
        remarks.append("suspected cut")
    rows, columns = values.shape
    return _OpenedFile(
        image=shown.image,
        field=shown.field,
        visible=values_inside(shown.image, shown.field, None),
        tags=Tags(rows=rows, columns=columns, bits=8 * values.dtype.itemsize),
        scheme=shown.scheme,
        remarks=remarks,
        pixels=_pixel_digest(values),
        span=shown.span,
    )


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
