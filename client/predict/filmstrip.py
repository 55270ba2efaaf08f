"""Pictures of a simulated progression. Each has the word SIMULATED in its pixels."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fedrad.system.files import replacing
from fedrad.system.text import ESCAPED

SIMULATED = "SIMULATED"
NOTE = "research use only; not a medical device"
SMALLEST_FRAME = 288
"""Smallest side of a picture, in pixels; smaller pictures are enlarged."""
CAPTION_HEIGHT = 40
"""Height of the caption below a picture, in pixels."""
LARGEST_CHANGE = 1024.0
"""Upper limit of the change, in grey levels of [-1024, 1024], that has the full colour in a
difference map."""


@dataclass(frozen=True)
class EditSequence:
    """One image and its edits."""

    name: str
    """Name of the file."""
    steps: NDArray[np.float32]
    """The image followed by its N edits, (N + 1, S, S) in [-1024, 1024]."""
    towards: str
    """The outcome that the edits simulate."""
    logits: NDArray[np.float64] | None = None
    """Logits of a classifier, (N + 1,); None without a classifier."""
    probabilities: NDArray[np.float64] | None = None
    """Calibrated probabilities, (N + 1,); None if the classifier is not calibrated."""

    def caption(self, step: int) -> str:
        """Text below the picture of a step."""
        what = "the image itself" if step == 0 else f"step {step} towards {self.towards}"
        if self.probabilities is not None:
            return f"{what}\nprobability {self.probabilities[step]:.2f}"
        if self.logits is not None:
            return f"{what}\nlogit {self.logits[step]:.2f}"
        return what


def write_filmstrip(sequence: EditSequence, folder: Path, stem: str) -> None:
    """Write `STEM-filmstrip.png`, `STEM-animation.gif`, `STEM-difference.png` and a picture of each
    step, `STEM-step-NN.png`."""
    frames = [_frame(_grey(step), sequence.caption(n)) for n, step in enumerate(sequence.steps)]
    for number, frame in enumerate(frames):
        _save(frame, folder / f"{stem}-step-{number:02}.png")
    strip = Image.new("RGB", (sum(f.width for f in frames), frames[0].height))
    for number, frame in enumerate(frames):
        strip.paste(frame, (number * frame.width, 0))
    _save(strip, folder / f"{stem}-filmstrip.png")
    forwards_and_backwards = [frames[0], *frames, frames[-1], *reversed(frames[1:-1])]
    _save(
        forwards_and_backwards[0],
        folder / f"{stem}-animation.gif",
        save_all=True,
        append_images=forwards_and_backwards[1:],
        duration=300,
        loop=0,
    )
    change, scale = difference_map(sequence.steps)
    caption = (
        f"last step minus image; full colour: {scale:.0f} of 2048\nred denser, blue less dense"
    )
    _save(_frame(change, caption), folder / f"{stem}-difference.png")


def _save(image: Image.Image, file: Path, **options: Any) -> None:
    """Write a picture in the format of its name."""
    with replacing(file, durable=False) as temporary:
        image.save(temporary, file.suffix[1:].upper(), **options)


def difference_map(steps: NDArray[np.float32]) -> tuple[Image.Image, float]:
    """The last step minus the image (N + 1, S, S), as a picture: red where it became brighter
    (denser), blue where darker, white where unchanged. Also returns the change, in grey levels,
    that has the full colour."""
    change = steps[-1].astype(float) - steps[0]
    scale = float(np.clip(np.abs(change).max(), 1.0, LARGEST_CHANGE))
    share = np.clip(change / scale, -1, 1)
    red, blue = 1 - np.clip(-share, 0, 1), 1 - np.clip(share, 0, 1)
    colours = np.stack([red, 1 - np.abs(share), blue], axis=-1)
    return Image.fromarray((255 * colours).round().astype(np.uint8)), scale


def write_confidence(sequences: dict[str, EditSequence], file: Path) -> None:
    """Write a CSV file with a row for each step of each image: the classifier's output, and the
    change from the image (root mean square, grey levels)."""
    with (
        replacing(file) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors=ESCAPED) as handle,
    ):
        table = csv.writer(handle)
        table.writerow(["picture", "file", "towards", "step", "logit", "probability", "change"])
        for stem, sequence in sequences.items():
            change = np.sqrt(((sequence.steps - sequence.steps[0]) ** 2).mean(axis=(1, 2)))
            for step in range(len(sequence.steps)):
                outputs = [
                    "" if v is None else round(float(v[step]), 4)
                    for v in (sequence.logits, sequence.probabilities)
                ]
                table.writerow(
                    [
                        stem,
                        sequence.name,
                        sequence.towards,
                        step,
                        *outputs,
                        round(float(change[step]), 2),
                    ]
                )


def _grey(step: NDArray[np.float32]) -> Image.Image:
    levels = np.clip((step / 2048 + 0.5) * 255, 0, 255).round().astype(np.uint8)
    return Image.fromarray(levels).convert("RGB")


def _frame(picture: Image.Image, caption: str) -> Image.Image:
    """A picture, enlarged if small, with SIMULATED in it and a caption below it."""
    factor = max(1, -(-SMALLEST_FRAME // picture.width))
    side = factor * picture.width
    large = picture.resize((side, side), Image.Resampling.BICUBIC)
    drawing = ImageDraw.Draw(large)
    font = ImageFont.load_default(max(14, side // 12))
    for anchor, place in (("lt", (6, 6)), ("rb", (side - 6, side - 6))):
        drawing.text(
            place, SIMULATED, "white", font, anchor=anchor, stroke_width=2, stroke_fill="black"
        )
    frame = Image.new("RGB", (side, side + CAPTION_HEIGHT), "black")
    frame.paste(large, (0, 0))
    ImageDraw.Draw(frame).multiline_text(
        (6, side + 3),
        f"{caption}\n{NOTE}" if "\n" not in caption else f"{caption}; {NOTE}",
        "white",
        ImageFont.load_default(11),
        spacing=2,
    )
    return frame
