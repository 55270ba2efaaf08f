"""A DICOM file: is it a radiograph that can be used, and what does it say of itself?"""

import io
import warnings
from contextlib import suppress
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .reading import Tags, UnusableImage

RADIOGRAPHY = ("CR", "DX", "DR", "RG", "XR", "SC", "OT", "")
"""Modalities that may hold a radiograph: SC and OT for secondary captures, DR, RG and XR as old
archives write them, none at all in still older ones."""

PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
"""SOP class Digital X-Ray Image Storage - For Processing."""

_VIEWS = {
    "antero-posterior": "AP",
    "anteroposterior": "AP",
    "postero-anterior": "PA",
    "posteroanterior": "PA",
    "left lateral": "LL",
    "right lateral": "RL",
    "lateral": "LL",
}

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def open_dicom(data: bytes) -> tuple[Dataset, bool]:
    """The dataset of a file's bytes, and whether its header had to be repaired.

    A file of before 1993, or one whose header was stripped, has no preamble or names no transfer
    syntax: it is read by what its elements look like. Raises UnusableImage for what is no DICOM.
    """
    marked = data[128:132] == b"DICM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(io.BytesIO(data), force=not marked)
        except MemoryError:  # says nothing about the file
            raise
        except Exception as error:  # a broken file can raise nearly anything
            raise UnusableImage(f"no readable DICOM: {_in_short(error)}") from error
    if not marked and "Rows" not in dataset and "SOPClassUID" not in dataset:
        raise UnusableImage("no DICOM, PNG or JPEG file")
    return dataset, _name_transfer_syntax(dataset) or not marked


def _name_transfer_syntax(dataset: Dataset) -> bool:
    """Fill in a missing transfer syntax from how the elements were read; True if it was missing."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if dataset.file_meta.get("TransferSyntaxUID"):
        return False
    implicit, little = dataset.original_encoding
    guess: UID = ImplicitVRLittleEndian
    if not implicit:
        guess = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = guess
    return True


def refuse_if_no_radiograph(dataset: Dataset) -> None:
    """Raise UnusableImage with the reason for everything but one grey radiograph for display."""
    modality = text(dataset, "Modality")
    if modality not in RADIOGRAPHY:
        raise UnusableImage(
            f"modality {modality}: only radiographs (CR, DX) and secondary captures (SC, OT) are "
            "read"
        )
    if not any(k in dataset for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnusableImage("holds no pixel data (cut off, or a report, plan or index)")
    if "PixelData" not in dataset:
        raise UnusableImage("floating-point pixels are no stored radiograph")
    for_processing = text(dataset, "PresentationIntentType") == "FOR PROCESSING"
    if for_processing or text(dataset, "SOPClassUID") == PROCESSING:
        raise UnusableImage(
            "a FOR PROCESSING image: raw detector values, which no one reads; export the image "
            "FOR PRESENTATION"
        )
    frames = number(dataset, "NumberOfFrames")
    if frames > 1:
        raise UnusableImage(f"several frames ({frames:.0f})")
    if number(dataset, "SamplesPerPixel") > 1:
        raise UnusableImage("a colour image")
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        said = photometric or "missing"
        raise UnusableImage(f"photometric interpretation {said}, not MONOCHROME1 or MONOCHROME2")


def tags(dataset: Dataset) -> Tags:
    """What the file says about how the image was made; never who is on it."""
    spacing = values(dataset, "PixelSpacing") or values(dataset, "ImagerPixelSpacing")
    return Tags(
        modality=text(dataset, "Modality"),
        view=_view(dataset),
        body_part=text(dataset, "BodyPartExamined").upper(),
        manufacturer=text(dataset, "Manufacturer"),
        model=text(dataset, "ManufacturerModelName"),
        photometric=text(dataset, "PhotometricInterpretation"),
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
        rows=_integer(dataset, "Rows"),
        columns=_integer(dataset, "Columns"),
        bits=_integer(dataset, "BitsStored"),
        kvp=number(dataset, "KVP"),
        exposure=number(dataset, "Exposure"),
        exposure_index=number(dataset, "ExposureIndex"),
        spacing=spacing[0] if spacing else float("nan"),
        acquired=_date(dataset),
    )


def height_to_width(dataset: Dataset) -> float:
    """Of one pixel, from Pixel Aspect Ratio, Pixel Spacing, Imager Pixel Spacing or, for a
    digitised film, Nominal Scanned Pixel Spacing; 1 where nothing plausible is said."""
    for keyword in (
        "PixelAspectRatio",
        "PixelSpacing",
        "ImagerPixelSpacing",
        "NominalScannedPixelSpacing",
    ):
        pair = values(dataset, keyword)
        if len(pair) == 2 and pair[0] > 0 and pair[1] > 0:
            return pair[0] / pair[1] if 0.2 <= pair[0] / pair[1] <= 5 else 1.0
    return 1.0


def has_overlay(dataset: Dataset) -> bool:
    """Whether an overlay plane is in the file, of its own or in unused bits of the pixels."""
    return any(
        (group, 0x3000) in dataset or (group, 0x0102) in dataset
        for group in range(0x6000, 0x6020, 2)
    )


def instance_uid(data: bytes) -> str:
    """SOPInstanceUID of a file's bytes, "" where there is none."""
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        force = data[128:132] != b"DICM"
        dataset = pydicom.dcmread(
            io.BytesIO(data),
            force=force,
            stop_before_pixels=True,
            specific_tags=["SOPInstanceUID"],
        )
        return text(dataset, "SOPInstanceUID")
    return ""


def text(dataset: Dataset, keyword: str) -> str:
    """An element as text without blanks; "" where it is absent, empty or unreadable."""
    with suppress(Exception):
        return str(dataset.get(keyword) or "").strip(" \t\r\n\0")
    return ""


def values(dataset: Dataset, keyword: str) -> list[float]:
    """An element's numbers; empty where it is absent, empty or no number."""
    with suppress(Exception):
        element: Any = dataset.get(keyword)
        if element is None or element == "":
            return []
        many = [element] if isinstance(element, str | int | float) else list(element)
        return [float(value) for value in many]
    return []


def number(dataset: Dataset, keyword: str) -> float:
    """An element's first number; NaN where it has none."""
    return next(iter(values(dataset, keyword)), float("nan"))


def _integer(dataset: Dataset, keyword: str) -> int:
    return int(next(iter(values(dataset, keyword)), 0.0))


def _view(dataset: Dataset) -> str:
    if view := text(dataset, "ViewPosition").upper():
        return view
    with suppress(Exception):
        meaning = str(dataset.ViewCodeSequence[0].CodeMeaning).strip().lower()
        return _VIEWS.get(meaning, meaning.upper())
    return ""


def _date(dataset: Dataset) -> str:
    for keyword in ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate"):
        day = text(dataset, keyword).replace(".", "")
        if len(day) == 8 and day.isdigit():
            return f"{day[:4]}-{day[4:6]}-{day[6:]}"
    return ""


def _in_short(error: Exception) -> str:
    """The first line of an exception of a library, without the advice that follows."""
    first = str(error).strip().split("\n")[0] or type(error).__name__
    return first[:200]
