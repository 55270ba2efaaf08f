"""A DICOM file: whether it is a radiograph that can be used, and its attributes."""

import io
import warnings
from contextlib import suppress

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .elements import (
    element_code,
    element_codes,
    element_number,
    element_numbers,
    element_text,
    shown_code,
)
from .reading import Tags, UnusableImage, reason_of

RADIOGRAPHY = ("CR", "DX", "DR", "RG", "XR", "SC", "OT")
"""Modalities that may hold a radiograph. SC and OT are secondary captures; old archives write DR,
RG or XR; still older ones leave the attribute empty."""

FOR_PROCESSING_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.1.1.1"
"""SOP class Digital X-Ray Image Storage - For Processing."""

_VIEWS = {
    "ANTEROPOSTERIOR": "AP",
    "POSTEROANTERIOR": "PA",
    "LEFTLATERAL": "LL",
    "RIGHTLATERAL": "RL",
    "LATERAL": "LL",
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
            raise UnusableImage(f"no readable DICOM: {reason_of(error)}") from error
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
    """Raise UnusableImage, with the reason, unless this is one grey radiograph for display.

    Its photometric interpretation and number of frames are then written as the standard has them.
    """
    others = [code for code in element_codes(dataset, "Modality") if code not in RADIOGRAPHY]
    if others:
        raise UnusableImage(
            f"modality {shown_code(others[0])}: only radiographs (CR, DX) and secondary captures "
            "(SC, OT) are read"
        )
    if not any(k in dataset for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnusableImage("holds no pixel data (cut off, or a report, plan or index)")
    if "PixelData" not in dataset:
        raise UnusableImage("floating-point pixels are no stored radiograph")
    intent = element_code(dataset, "PresentationIntentType")
    sop_class = element_text(dataset, "SOPClassUID")
    if intent == "FORPROCESSING" or sop_class == FOR_PROCESSING_SOP_CLASS:
        raise UnusableImage(
            "a FOR PROCESSING image: raw detector values, which no one reads; export the image "
            "FOR PRESENTATION"
        )
    if intent not in ("", "FORPRESENTATION"):
        raise UnusableImage(
            f"Presentation Intent Type {shown_code(intent)}: neither FOR PRESENTATION nor FOR "
            "PROCESSING"
        )
    frames = element_number(dataset, "NumberOfFrames")
    if frames > 1:
        raise UnusableImage(f"several frames ({frames:g})")
    if element_number(dataset, "SamplesPerPixel") > 1:
        raise UnusableImage("a colour image")
    photometric = element_code(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        stated = element_text(dataset, "PhotometricInterpretation")
        raise UnusableImage(
            f"photometric interpretation {shown_code(stated) if stated else 'missing'}, not "
            "MONOCHROME1 or MONOCHROME2"
        )
    # As decoders need them, which interpret the elements themselves.
    dataset.PhotometricInterpretation = photometric
    if "NumberOfFrames" in dataset:
        dataset.NumberOfFrames = 1


def tags(dataset: Dataset) -> Tags:
    """The attributes that describe how the image was acquired; none identifies the patient."""
    return Tags(
        modality=element_code(dataset, "Modality"),
        view=_view(dataset),
        body_part=element_text(dataset, "BodyPartExamined").upper(),
        manufacturer=element_text(dataset, "Manufacturer"),
        model=element_text(dataset, "ManufacturerModelName"),
        photometric=element_code(dataset, "PhotometricInterpretation"),
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
        rows=int(element_number(dataset, "Rows")),
        columns=int(element_number(dataset, "Columns")),
        bits=int(np.nan_to_num(element_number(dataset, "BitsStored"))),
        kvp=_described(dataset, "KVP"),
        exposure=_described(dataset, "Exposure"),
        exposure_index=_described(dataset, "ExposureIndex"),
        spacing=_spacing(dataset),
        acquired=_date(dataset),
    )


def height_to_width(dataset: Dataset) -> float:
    """Height of a pixel divided by its width; 1 if the file does not state it.

    The first of these that is present decides: Pixel Aspect Ratio, Pixel Spacing, Imager Pixel
    Spacing and, for a digitised film, Nominal Scanned Pixel Spacing. Zeros mean "not known". Raises
    UnusableImage for one that is present and is no pair of numbers, or no plausible one.
    """
    for keyword in (
        "PixelAspectRatio",
        "PixelSpacing",
        "ImagerPixelSpacing",
        "NominalScannedPixelSpacing",
    ):
        pair = element_numbers(dataset, keyword)
        if not any(pair):
            continue
        if keyword == "PixelAspectRatio" and pair == [1]:  # as ACR-NEMA files write 1 to 1
            return 1.0
        if len(pair) != 2 or not min(pair) > 0 or not 0.2 <= pair[0] / pair[1] <= 5:
            raise UnusableImage(f"{keyword} is in the header and gives no plausible pixel")
        return pair[0] / pair[1]
    return 1.0


def burned_in(dataset: Dataset) -> bool:
    """Whether the file says, or may say, that text is burned into its pixels."""
    return element_code(dataset, "BurnedInAnnotation") not in ("", "NO", "N")


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


def _described(dataset: Dataset, keyword: str) -> float:
    """A number that has no part in the picture; NaN if it is absent or unreadable."""
    with suppress(UnusableImage):
        return element_number(dataset, keyword)
    return float("nan")


def _spacing(dataset: Dataset) -> float:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        with suppress(UnusableImage):
            if pair := element_numbers(dataset, keyword):
                return pair[0]
    return float("nan")


def _view(dataset: Dataset) -> str:
    view = element_code(dataset, "ViewPosition")
    if not view:
        with suppress(Exception):
            view = element_code(dataset.ViewCodeSequence[0], "CodeMeaning")
    return _VIEWS.get(view, view)


def _date(dataset: Dataset) -> str:
    for keyword in ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate"):
        day = element_text(dataset, keyword).replace(".", "")
        if len(day) == 8 and day.isdigit():
            return f"{day[:4]}-{day[4:6]}-{day[6:]}"
    return ""
