"""What is known of a file once it was read: can it be used, and what should a person know."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray


class UnusableImage(Exception):
    """A file that is no radiograph that can be used; the text says why, for the site alone."""


Scheme = Literal["", "VOI LUT", "window", "percentiles", "as stored"]
"""How the contrast was chosen; `as stored` for PNG and JPEG, which hold what is shown."""

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
"""Each remark in a sentence, for the site engineer."""


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
"""Words of Body Part Examined that a chest radiograph may carry (free text in old files)."""


@dataclass(frozen=True)
class Tags:
    """What the file says about how the image was made; empty or NaN where it says nothing.

    Kept at the site, for its own checks. No name, number or date of birth is among them.
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
    """Distance of pixels, mm (rows)."""
    acquired: str = ""
    """Date of acquisition, else of content, series or study, as YYYY-MM-DD."""

    @property
    def may_be_chest(self) -> bool:
        """Whether the file does not say that this is another part of the body."""
        return not self.body_part or any(word in self.body_part for word in CHEST)


@dataclass(frozen=True)
class Reading:
    """The outcome of reading one file.

    `content`: SHA-256 of the file's bytes ("" where it could not be opened). `unusable`: why it
    was set aside, None for a usable image. `pixels`: SHA-256 of shape and decoded stored values,
    so equal for copies that were re-encoded without loss. `brightness`, `contrast`: mean and
    standard deviation of the shown picture without borders and padding, in [0, 1].
    `scheme`: which contrast was used.
    """

    content: str
    unusable: str | None = None
    tags: Tags = Tags()
    remarks: tuple[Remark, ...] = ()
    scheme: Scheme = ""
    pixels: str = ""
    brightness: float = float("nan")
    contrast: float = float("nan")

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        known = get_args(Remark)
        remarks = tuple(r for r in values["remarks"] if r in known)
        return cls(**{**values, "tags": Tags(**values["tags"]), "remarks": remarks})


@dataclass(frozen=True)
class Radiograph:
    """A usable file: its picture (S, S) float16 in [-1024, 1024], and what is known of it."""

    picture: NDArray[np.float16]
    reading: Reading
