"""From a radiograph's file to the picture the network sees."""

import io
from pathlib import Path

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from torch.nn import functional

RADIOGRAPHY = {"CR", "DX", "DR", "RG", "XR", "SC", "OT", "IO", ""}
"""DICOM modalities that may hold a radiograph; secondary captures say SC or OT."""

BLACK = -1024.0

MINIMUM_VISIBLE = 0.05
"""Share of pixels that must lie inside the file's own window; else window and pixels disagree."""


class UnusableImage(Exception):
    """A file that is no radiograph this version can read; the text says why, for the site."""


def read_image(path: Path, size: int) -> NDArray[np.float16]:
    """Read a DICOM, PNG or JPEG radiograph as (size, size) float16 in [-1024, 1024].

    In this order: decode; modality LUT or rescale (detector to meaningful values); VOI LUT or the
    first window, or where there is none the 0.5th to 99.5th percentile (what a person would be
    shown); inversion of MONOCHROME1, which turns what is shown and so comes after the window;
    scaling to [-1024, 1024] as torchxrayvision's networks expect; padding to a square with
    black, so that no anatomy is cut off and none is stretched; resizing with antialiasing.

    Raises UnusableImage with a reason for anything else.
    """
    shown = _read_dicom(path) if _is_dicom(path) else _read_picture(path)
    return _fit_square(_normalize(shown), size)


def _normalize(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    from torchxrayvision.utils import normalize  # here, for it takes seconds to import

    scaled: NDArray[np.float32] = normalize(shown, 1.0)
    return scaled


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise UnusableImage(f"cannot be opened: {error.strerror}") from error
    if not start:
        raise UnusableImage("empty file")
    return not start.startswith((b"\x89PNG", b"\xff\xd8"))


def _read_dicom(path: Path) -> NDArray[np.float32]:
    """What a display would show, (rows, columns) in [0, 1], 1 white."""
    try:
        dataset = pydicom.dcmread(path, force=False)
    except Exception as error:  # a broken file can raise nearly anything
        raise UnusableImage(f"no readable DICOM: {error}") from error
    modality = str(dataset.get("Modality", ""))
    if modality not in RADIOGRAPHY:
        raise UnusableImage(f"modality {modality} is no radiograph")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise UnusableImage("several frames")
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise UnusableImage("colour image")
    photometric = dataset.get("PhotometricInterpretation", "")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnusableImage(f"photometric interpretation {photometric!r}")
    try:
        values = apply_modality_lut(_pixels(dataset), dataset)
        shown = _window(values, dataset)
    except Exception as error:
        raise UnusableImage(f"pixels cannot be decoded: {error}") from error
    if photometric == "MONOCHROME1":
        np.subtract(1.0, shown, out=shown)
    return shown


JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


def _pixels(dataset: pydicom.Dataset) -> NDArray[np.generic]:
    """Stored values. JPEG Extended with 12 bits goes to imagecodecs, all else to pydicom."""
    if dataset.file_meta.TransferSyntaxUID == JPEG_EXTENDED and dataset.BitsAllocated > 8:
        import imagecodecs
        from pydicom.encaps import generate_frames

        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        decoded: NDArray[np.generic] = imagecodecs.jpeg_decode(frame)
        return decoded
    return dataset.pixel_array


def _window(values: NDArray[np.generic], dataset: pydicom.Dataset) -> NDArray[np.float32]:
    """Scale to [0, 1] through VOI LUT, first window, or percentiles."""
    has_lut, has_window = "VOILUTSequence" in dataset, "WindowCenter" in dataset
    if has_lut or has_window:
        windowed = np.asarray(apply_voi_lut(values, dataset, index=0, prefer_lut=True), np.float32)
        if has_lut:
            low, high = 0.0, 2.0 ** float(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
        else:  # pydicom's window fills the range of the modality's output
            low, high = _output_range(dataset)
    else:
        windowed = np.asarray(values, np.float32)
        low, high = (float(x) for x in np.percentile(windowed, (0.5, 99.5)))
    if not high > low:
        raise ValueError("all pixels are equal")
    visible = ((windowed > low) & (windowed < high)).mean()
    if visible < MINIMUM_VISIBLE:
        raise ValueError(f"its window shows grey in {visible:.1%} of the picture only")
    scaled: NDArray[np.float32] = np.clip((windowed - low) / (high - low), 0.0, 1.0)
    return scaled.astype(np.float32)  # a copy, so inversion may work in place


def _output_range(dataset: pydicom.Dataset) -> tuple[float, float]:
    """Range that `apply_voi_lut` scales a window to: that of the stored bits after rescale."""
    bits = int(dataset.BitsStored)
    signed = int(dataset.get("PixelRepresentation", 0)) == 1
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    if "ModalityLUTSequence" in dataset:
        return 0.0, 2.0 ** float(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    slope = float(dataset.get("RescaleSlope", 1) or 1)
    intercept = float(dataset.get("RescaleIntercept", 0) or 0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]


def _read_picture(path: Path) -> NDArray[np.float32]:
    """A PNG or JPEG, 8 or 16 bits, as [0, 1]."""
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            values = np.asarray(picture if picture.mode.startswith("I") else picture.convert("L"))
    except Exception as error:
        raise UnusableImage(f"no readable picture: {error}") from error
    largest = 255.0 if values.dtype == np.uint8 else 65535.0
    scaled: NDArray[np.float32] = np.clip(values.astype(np.float32) / largest, 0.0, 1.0)
    return scaled


def _fit_square(image: NDArray[np.float32], size: int) -> NDArray[np.float16]:
    rows, columns = image.shape
    side = max(rows, columns)
    top, left = (side - rows) // 2, (side - columns) // 2
    square = np.full((side, side), BLACK, np.float32)
    square[top : top + rows, left : left + columns] = image
    resized = functional.interpolate(
        torch.from_numpy(square)[None, None], size=(size, size), mode="bilinear", antialias=True,
        align_corners=False,
    )  # fmt: skip
    picture: NDArray[np.float16] = resized[0, 0].clamp(-1024, 1024).half().numpy()
    return picture
