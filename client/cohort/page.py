"""`check.html`: the cohort on one page that stays at the site. Self-contained, without scripts."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedrad.system.templates import template_environment

from .evidence import Evidence, Pictures, downsample
from .inspection import Inspection

TEMPLATES = Path(__file__).parent / "templates"
SHOWN, PER_FINDING = 120, 24
"""Images on the contact sheet, drawn at random, and images per finding. The limits keep the page
small enough for a browser, however large the cohort is."""
CARD_SIDE = 112
BINS = 40


@dataclass(frozen=True)
class ImageCard:
    """One image of a contact sheet: data URI, file name, outcomes as text."""

    source: str
    name: str
    text: str


@dataclass(frozen=True)
class PixelHistogram:
    """Histogram of brightness or contrast for one outcome. `bars`: class -> (BINS,) heights of the
    bars, relative to the tallest bar of both classes."""

    quantity: str
    outcome: str
    bars: dict[str, list[float]]


def render_page(inspection: Inspection, evidence: Evidence, pictures: Pictures) -> str:
    """The page as HTML. The same inspection always gives the same text."""
    position = {row.name: i for i, row in enumerate(evidence.rows)}

    def cards(rows: list[int]) -> list[ImageCard]:
        if not rows:
            return []
        small = downsample(pictures[np.array(rows, dtype=np.int64)], CARD_SIDE)
        return [
            ImageCard(_uri(picture), evidence.rows[row].name, _outcomes_text(evidence, row))
            for row, picture in zip(rows, small, strict=True)
        ]

    flagged = []
    for result in inspection.results:
        for finding in result.findings:
            names = [name.split(": ")[0] for group in finding.files for name in group]
            rows = [position[name] for name in names if name in position]
            if (finding.severity or result.severity) == "information":
                rows = []  # such images are common, and the contact sheet shows some
            flagged.append((result, finding, cards(rows[:PER_FINDING]), len(rows) - PER_FINDING))
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(evidence.rows))[:SHOWN]
    environment = template_environment(TEMPLATES, html=True)
    return environment.get_template("check.html.j2").render(
        inspection=inspection,
        flagged=flagged,
        sheet=cards(sorted(drawn.tolist(), key=lambda row: _outcomes_text(evidence, row))),
        images=len(evidence.rows),
        histograms=_histograms(evidence),
        bins=BINS,
    )


def _uri(picture: NDArray[np.uint8]) -> str:
    jpeg = io.BytesIO()
    Image.fromarray(picture).save(jpeg, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"


def _outcomes_text(evidence: Evidence, row: int) -> str:
    texts = {1.0: "1", 0.0: "0"}
    return ", ".join(
        f"{outcome} {texts.get(label, 'unknown')}"
        for outcome, label in zip(evidence.table.outcomes, evidence.rows[row].labels, strict=True)
    )


def _histograms(evidence: Evidence) -> list[PixelHistogram]:
    """The histograms of brightness and contrast of every outcome."""
    histograms = []
    for quantity in ("brightness", "contrast"):
        values = np.array([getattr(reading, quantity) for reading in evidence.readings], float)
        top = 1.0 if quantity == "brightness" else 0.5
        for at, outcome in enumerate(evidence.table.outcomes):
            shares = {}
            for value, word in ((1, "with"), (0, "without")):
                of_class = values[(evidence.labels[:, at] == value) & np.isfinite(values)]
                if len(of_class):
                    counts = np.histogram(np.clip(of_class, 0, top), BINS, (0, top))[0]
                    shares[word] = counts / len(of_class)
            if shares:
                tallest = max(float(share.max()) for share in shares.values())
                bars = {word: (s / tallest).round(3).tolist() for word, s in shares.items()}
                histograms.append(PixelHistogram(quantity, outcome, bars))
    return histograms
