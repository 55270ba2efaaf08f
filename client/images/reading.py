"""The result of reading a file: whether it can be used, and remarks for the site engineer."""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray


class UnusableImage(Exception):
    """A file that cannot be used as a radiograph. The text gives the reason, for the site only."""


def reason_of(error: Exception) -> str:
    """What a library's exception says, in one line; its type if it says nothing."""
    return whole_reason(str(error)) or type(error).__name__


def whole_reason(text: str) -> str:
    """What a library said, in one line of at most 500 characters, without paths."""
    words = re.sub(r"(?<!\w)/(?:[\w.+-]+/)+[\w.+-]*", "(path)", " ".join(text.split()))
    return words if len(words) <= 500 else f"{words[:499]}…"


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
    "window unreadable",
    "window not of these pixels",
    "presentation disagrees",
    "non-square pixels",
    "colour picture",
    "contrast from the values",
    "dark or flat",
    "suspected cut",
    "header states too few bits",
    "header states other bits",
    "header states other sign",
    "transparency or gamma",
    "shutter unreadable",
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
    "window unreadable": "a display window is in the file and cannot be used (a value that is no "
    "number, a width of 0, half of a pair, or an unknown VOI LUT function); the 0.5th to 99.5th "
    "percentile of the body is used instead",
    "window not of these pixels": "the display window was made for other pixels: the picture would "
    "be dark, bright, flat, or nearly all black and white; the 0.5th to 99.5th percentile of the "
    "body is used instead",
    "presentation disagrees": "Presentation LUT Shape contradicts the photometric interpretation; "
    "the photometric interpretation is used",
    "non-square pixels": "pixels are not square; the picture was resampled to true proportions",
    "colour picture": "a grey picture stored in colour; its three channels are equal",
    "contrast from the values": "a PNG with 16 bits does not say which values are black and "
    "white; the 0.5th to 99.5th percentile of the body is used",
    "dark or flat": "as it is stored, the picture is dark, bright, flat, or nearly all black and "
    "white. Its contrast was stretched to the 0.5th to 99.5th percentile of the body, as far as "
    "that helps: look at it, and export it again",
    "suspected cut": "the lower part is one grey, or one row over and over, as if the rest of "
    "the file had been lost: look at the picture, and export it again",
    "header states too few bits": "the pixel values have more bits than Bits Stored says, and "
    "would have wrapped round to contour lines; the bits that they need are used: look at "
    "the picture",
    "header states other bits": "Bits Stored or High Bit is impossible for these pixel values; "
    "they are taken from the lowest bits: look at the picture",
    "header states other sign": "Pixel Representation contradicts the pixel values, which would "
    "have wrapped round; the sign that leaves them whole is used: look at the picture",
    "transparency or gamma": "the PNG has transparent pixels, or asks for another gamma than that "
    "of a screen; the values are used as they are stored",
    "shutter unreadable": "the file names a display shutter of unknown shape or edges: "
    "what it should hide is shown",
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
    span: float = float("nan")
    """Difference of the values shown white and black, if they were chosen from the values."""

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
