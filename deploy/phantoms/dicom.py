"""A phantom film as a DICOM file of computed radiography."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)


@dataclass(frozen=True)
class PhantomIdentity:
    """Patient, place and time of the image: data that must never leave a hospital."""

    patient_id: str
    patient_name: str
    birth_date: datetime
    sex: str  # M or F
    age: str  # DICOM age string, e.g. 001D or 054Y
    accession_number: str
    study_id: str
    institution: str
    referring_physician: str
    acquired: datetime
    removed: bool = False  # whether the identity was removed before publication


@dataclass(frozen=True)
class StoredPixels:
    """Stored values and the attributes needed to interpret them."""

    stored: NDArray[np.uint16]  # (rows, columns)
    bits: int
    photometric: str  # MONOCHROME1 or MONOCHROME2
    slope: float
    intercept: float
    window: tuple[float, float] | None  # centre and width, after rescaling
    spacing_mm: float


def write_dicom(
    path: Path, identity: PhantomIdentity, pixels: StoredPixels, transfer_syntax: str
) -> None:
    """Write one image.

    The same arguments give the same bytes, because UIDs are derived from the identity.
    `transfer_syntax` is "explicit", "rle" or "jpeg2000".
    """

    def uid(*level: str) -> UID:
        return generate_uid(entropy_srcs=["fedrad phantom", identity.institution, *level])

    instance = uid(identity.patient_id, identity.accession_number, path.name)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPInstanceUID = instance
    ds.StudyInstanceUID = uid(identity.patient_id, identity.accession_number)
    ds.SeriesInstanceUID = uid(identity.patient_id, identity.accession_number, "series")
    _set_attributes(ds, identity)
    _set_pixels(ds, pixels, transfer_syntax)
    ds.save_as(path, enforce_file_format=True)


def _set_attributes(ds: FileDataset, identity: PhantomIdentity) -> None:
    """Set the attributes of patient, study and image content."""
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = identity.acquired.strftime(
        "%Y%m%d"
    )
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = identity.acquired.strftime(
        "%H%M%S"
    )
    ds.AccessionNumber = identity.accession_number
    ds.Modality = "CR"
    ds.Manufacturer = "fedrad phantoms"
    ds.InstitutionName = identity.institution
    ds.ReferringPhysicianName = identity.referring_physician
    ds.StudyDescription = "PHANTOM chest, drawn by a program, not a patient"
    ds.PatientName = identity.patient_name
    ds.PatientID = identity.patient_id
    ds.PatientBirthDate = identity.birth_date.strftime("%Y%m%d")
    ds.PatientSex = identity.sex
    ds.PatientAge = identity.age
    ds.PatientIdentityRemoved = "YES" if identity.removed else "NO"
    if identity.removed:
        ds.DeidentificationMethod = "drawn without an identity"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "AP"
    ds.PatientOrientation = ["L", "F"]
    ds.StudyID = identity.study_id
    ds.SeriesNumber = "1"
    ds.InstanceNumber = "1"


def _set_pixels(ds: FileDataset, pixels: StoredPixels, transfer_syntax: str) -> None:
    """Set the pixels and the attributes needed to interpret them."""
    ds.ImagerPixelSpacing = ds.PixelSpacing = [f"{pixels.spacing_mm:.4f}"] * 2
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = pixels.photometric
    ds.Rows, ds.Columns = pixels.stored.shape
    ds.BitsAllocated = 16
    ds.BitsStored = pixels.bits
    ds.HighBit = pixels.bits - 1
    ds.PixelRepresentation = 0
    ds.BurnedInAnnotation = "NO"
    if (pixels.slope, pixels.intercept) != (1.0, 0.0):
        ds.RescaleIntercept = f"{pixels.intercept:g}"
        ds.RescaleSlope = f"{pixels.slope:g}"
        ds.RescaleType = "US"
    if pixels.window is not None:
        ds.WindowCenter, ds.WindowWidth = (f"{value:.1f}" for value in pixels.window)
    ds.PresentationLUTShape = "INVERSE" if pixels.photometric == "MONOCHROME1" else "IDENTITY"
    ds.PixelData = pixels.stored.astype("<u2").tobytes()
    if transfer_syntax == "rle":
        ds.compress(RLELossless, generate_instance_uid=False)
    elif transfer_syntax == "jpeg2000":
        # Not ds.compress, for which pydicom needs the package pylibjpeg besides this codec.
        from openjpeg.utils import encode_array

        stream = encode_array(pixels.stored, bits_stored=pixels.bits, photometric_interpretation=2)
        ds.PixelData = encapsulate([stream])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
