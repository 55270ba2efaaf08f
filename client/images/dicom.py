"""A DICOM file: whether it is a radiograph that can be used, and its attributes."""

import io
import warnings
from contextlib import suppress
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .reading import Tags, UnusableImage

RADIOGRAPHY = ("CR", "DX", "DR", "RG", "XR", "SC", "OT", "")
"""Modalities that may hold a radiograph. SC and OT are secondary captures; old archives write DR,
RG or XR; still older ones leave the attribute empty."""

FOR_PROCESSING_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.1.1.1"
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
    """The dataset in a file's bytes, and whether its header had to be repaired.

    A file from before 1993, or one whose header was removed, has no preamble or states no transfer
    syntax. The encoding is then inferred from its elements. Raises UnusableImage for a file that is
    not DICOM.
    """
    marked = data[128:132] == b"DICM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(io.BytesIO(data), force=not marked)
        except MemoryError:  # no fault of the file
            raise
        except Exception as error:  # pydicom can raise nearly any exception for a broken file
            raise UnusableImage(f"no readable DICOM: {_first_line(error)}") from error
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


def require_radiograph(dataset: Dataset) -> None:
    """Raise UnusableImage, with the reason, unless this is one grey radiograph for display."""
    modality = element_text(dataset, "Modality")
    if modality not in RADIOGRAPHY:
        raise UnusableImage(
            f"modality {modality}: only radiographs (CR, DX) and secondary captures (SC, OT) are "
            "read"
        )
    if not any(k in dataset for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnusableImage("holds no pixel data (cut off, or a report, plan or index)")
    if "PixelData" not in dataset:
        raise UnusableImage("floating-point pixels are no stored radiograph")
    for_processing = element_text(dataset, "PresentationIntentType") == "FOR PROCESSING"
    if for_processing or element_text(dataset, "SOPClassUID") == FOR_PROCESSING_SOP_CLASS:
        raise UnusableImage(
            "a FOR PROCESSING image: raw detector values, which no one reads; export the image "
            "FOR PRESENTATION"
        )
    frames = element_number(dataset, "NumberOfFrames")
    if frames > 1:
        raise UnusableImage(f"several frames ({frames:.0f})")
    if element_number(dataset, "SamplesPerPixel") > 1:
        raise UnusableImage("a colour image")
    photometric = element_text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnusableImage(
            f"photometric interpretation {photometric or 'missing'}, not MONOCHROME1 or MONOCHROME2"
        )


def tags(dataset: Dataset) -> Tags:
    """The attributes that describe how the image was acquired; none identifies the patient."""
    spacing = element_numbers(dataset, "PixelSpacing") or element_numbers(
        dataset, "ImagerPixelSpacing"
    )
    return Tags(
        modality=element_text(dataset, "Modality"),
        view=_view(dataset),
        body_part=element_text(dataset, "BodyPartExamined").upper(),
        manufacturer=element_text(dataset, "Manufacturer"),
        model=element_text(dataset, "ManufacturerModelName"),
        photometric=element_text(dataset, "PhotometricInterpretation"),
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
        rows=_integer(dataset, "Rows"),
        columns=_integer(dataset, "Columns"),
        bits=_integer(dataset, "BitsStored"),
        kvp=element_number(dataset, "KVP"),
        exposure=element_number(dataset, "Exposure"),
        exposure_index=element_number(dataset, "ExposureIndex"),
        spacing=spacing[0] if spacing else float("nan"),
        acquired=_date(dataset),
    )


def height_to_width(dataset: Dataset) -> float:
    """Height of a pixel divided by its width; 1 if the file states no plausible value.

    The first of these that is present decides: Pixel Aspect Ratio, Pixel Spacing, Imager Pixel
    Spacing and, for a digitised film, Nominal Scanned Pixel Spacing.
    """
    for keyword in (
        "PixelAspectRatio",
        "PixelSpacing",
        "ImagerPixelSpacing",
        "NominalScannedPixelSpacing",
    ):
        pair = element_numbers(dataset, keyword)
        if len(pair) == 2 and pair[0] > 0 and pair[1] > 0:
            return pair[0] / pair[1] if 0.2 <= pair[0] / pair[1] <= 5 else 1.0
    return 1.0


def has_overlay(dataset: Dataset) -> bool:
    """Whether the file has an overlay plane, as an element or in unused bits of the pixels."""
    return any(
        (group, 0x3000) in dataset or (group, 0x0102) in dataset
        for group in range(0x6000, 0x6020, 2)
    )


def instance_uid(data: bytes) -> str:
    """SOPInstanceUID in a file's bytes; "" if there is none."""
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        force = data[128:132] != b"DICM"
        dataset = pydicom.dcmread(
            io.BytesIO(data),
            force=force,
            stop_before_pixels=True,
            specific_tags=["SOPInstanceUID"],
        )
        return element_text(dataset, "SOPInstanceUID")
    return ""


def element_text(dataset: Dataset, keyword: str) -> str:
    """An element as text without surrounding blanks; "" if absent, empty or unreadable."""
    with suppress(Exception):
        return str(dataset.get(keyword) or "").strip(" \t\r\n\0")
    return ""


def element_numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The numbers in an element; an empty list if it is absent, empty or not numeric."""
    with suppress(Exception):
        element: Any = dataset.get(keyword)
        if element is None or element == "":
            return []
        many = [element] if isinstance(element, str | int | float) else list(element)
        return [float(value) for value in many]
    return []


def element_number(dataset: Dataset, keyword: str) -> float:
    """The first number in an element; NaN if it has none."""
    return next(iter(element_numbers(dataset, keyword)), float("nan"))


def _integer(dataset: Dataset, keyword: str) -> int:
    return int(next(iter(element_numbers(dataset, keyword)), 0.0))


def _view(dataset: Dataset) -> str:
    if view := element_text(dataset, "ViewPosition").upper():
        return view
    with suppress(Exception):
        meaning = str(dataset.ViewCodeSequence[0].CodeMeaning).strip().lower()
        return _VIEWS.get(meaning, meaning.upper())
    return ""


def _date(dataset: Dataset) -> str:
    for keyword in ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate"):
        day = element_text(dataset, keyword).replace(".", "")
        if len(day) == 8 and day.isdigit():
            return f"{day[:4]}-{day[4:6]}-{day[6:]}"
    return ""


def _first_line(error: Exception) -> str:
    """The first line of a library's exception, without the advice that may follow."""
    first = str(error).strip().split("\n")[0] or type(error).__name__
    return first[:200]
