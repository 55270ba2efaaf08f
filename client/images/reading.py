"""The result of reading a file: whether it can be used, and remarks for the site engineer."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray


class UnusableImage(Exception):
    """A file that cannot be used as a radiograph. The text gives the reason, for the site only."""


ContrastScheme = Literal["", "VOI LUT", "window", "percentiles", "as stored"]
"""How the contrast was chosen; `as stored` for PNG and JPEG, which hold displayed values."""

Remark = Literal[
    "burned-in annotation",
    "overlay",
    "suspected inverted",
    "whole body",
    "no lungs found",
    "several windows",
    "no window",
    "window not of these pixels",
    "presentation disagrees",
    "non-square pixels",
    "colour picture",
    "fewer bits used",
    "file repaired",
]

REMARKS: dict[Remark, str] = {
    "burned-in annotation": "the file says that text is burned into its pixels: look whether it "
    "names the patient or tells the outcome",
    "overlay": "an overlay plane is in the file; it is not drawn into the picture",
    "suspected inverted": "dark where a radiograph is bright: the photometric interpretation may "
    "be wrong. Look at the picture; correct the file, it is not inverted here",
    "whole body": 'much of the body besides the chest (a babygram): region = "lungs" in the '
    "experiment crops to the lung fields, or leave such images out",
    "no lungs found": 'region = "lungs" was asked for and no lung fields were found: the whole '
    "picture is used",
    "several windows": "several display windows are in the file; the first is used",
    "no window": "no display window is in the file; the 0.5th to 99.5th percentile of the body "
    "is used",
    "window not of these pixels": "the display window shows nearly nothing of these pixels; the "
    "0.5th to 99.5th percentile of the body is used instead",
    "presentation disagrees": "Presentation LUT Shape contradicts the photometric interpretation; "
    "the photometric interpretation is used",
    "non-square pixels": "pixels are not square; the picture was resampled to true proportions",
    "colour picture": "a grey picture stored in colour; its three channels are equal",
    "fewer bits used": "a 16-bit picture whose values use 10, 12 or 14 bits only; white is the "
    "largest value of the bits used",
    "file repaired": "the file breaks the rules of DICOM (no header, no transfer syntax) and was "
    "read by what its elements look like: look at the picture",
}
"""Explanation of each remark, for the site engineer."""


CHEST = (
    "CHEST",
    "THORAX",
    "LUNG",
    "BODY",
    "PORT",
    "HEART",
    "RIB",
    "TRUNK",
    "TORA",
    "BABY",
    "INFANT",
)
"""Words in Body Part Examined (free text in old files) that a chest radiograph may have."""


@dataclass(frozen=True)
class Tags:
    """DICOM attributes that describe how an image was acquired; empty or NaN if absent.

    They stay at the site, for its own checks. None identifies the patient.
    """

    modality: str = ""
    view: str = ""
    """`PA`, `AP`, `LL`, `RL`, … (View Position, else the code of View Code Sequence)."""
    body_part: str = ""
    manufacturer: str = ""
    model: str = ""
    photometric: str = ""
    transfer_syntax: str = ""
    rows: int = 0
    columns: int = 0
    bits: int = 0
    kvp: float = float("nan")
    """Peak tube voltage, kV."""
    exposure: float = float("nan")
    """mAs."""
    exposure_index: float = float("nan")
    spacing: float = float("nan")
    """Pixel spacing between rows, mm."""
    acquired: str = ""
    """Date of acquisition, else of content, series or study: YYYY-MM-DD."""

    @property
    def may_be_chest(self) -> bool:
        """False if the file states another part of the body."""
        return not self.body_part or any(word in self.body_part for word in CHEST)


@dataclass(frozen=True)
class Reading:
    """The result of reading one file."""

    content: str
    """SHA-256 of the file's bytes; "" if the file could not be opened."""
    unusable: str | None = None
    """Why the image cannot be used; None for a usable image."""
    tags: Tags = Tags()
    remarks: tuple[Remark, ...] = ()
    scheme: ContrastScheme = ""
    pixels: str = ""
    """SHA-256 of shape and stored values: equal for copies that were re-encoded without loss."""
    brightness: float = float("nan")
    """Mean of the displayed image without borders and padding, in [0, 1]."""
    contrast: float = float("nan")
    """Standard deviation of the same pixels."""

    def to_json(self) -> dict[str, Any]:
        """Fields as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        known = get_args(Remark)
        remarks = tuple(r for r in values["remarks"] if r in known)
        return cls(**{**values, "tags": Tags(**values["tags"]), "remarks": remarks})


@dataclass(frozen=True)
class Radiograph:
    """A usable file: its picture, (S, S) float16 in [-1024, 1024], and its reading."""

    picture: NDArray[np.float16]
    reading: Reading
