"""`check.html`: the cohort at a glance, for the site's eyes only. Self-contained, no script."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from .evidence import Evidence, Pictures, reduced
from .inspection import Inspection

TEMPLATES = Path(__file__).parent / "templates"
SHOWN, PER_FINDING = 120, 24
"""Images drawn at random for the contact sheet, and shown per finding: the page stays of a size
that a browser opens, whatever the cohort's."""
SIDE = 112
BINS = 40


@dataclass(frozen=True)
class Card:
    """One image of a contact sheet: data URI, file name, outcomes in words."""

    source: str
    name: str
    text: str


@dataclass(frozen=True)
class Histogram:
    """Shares (BINS,) of units in [0, 1] of brightness or contrast, per class, as SVG heights."""

    quantity: str
    outcome: str
    bars: dict[str, list[float]]


def render(found: Inspection, evidence: Evidence, pictures: Pictures) -> str:
    """The page. The same inspection gives the same text."""
    place = {row.name: i for i, row in enumerate(evidence.rows)}

    def cards(rows: list[int]) -> list[Card]:
        if not rows:
            return []
        small = reduced(pictures[np.array(rows, dtype=np.int64)], SIDE)
        return [
            Card(_uri(picture), evidence.rows[row].name, _words(evidence, row))
            for row, picture in zip(rows, small, strict=True)
        ]

    flagged = []
    for result in found.results:
        for finding in result.findings:
            names = [name.split(": ")[0] for group in finding.files for name in group]
            rows = [place[name] for name in names if name in place]
            if (finding.severity or result.severity) == "information":
                rows = []  # the contact sheet shows enough of what is common
            flagged.append((result, finding, cards(rows[:PER_FINDING]), len(rows) - PER_FINDING))
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(evidence.rows))[:SHOWN]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("check.html.j2").render(
        found=found,
        flagged=flagged,
        sheet=cards(sorted(drawn.tolist(), key=lambda row: _words(evidence, row))),
        images=len(evidence.rows),
        histograms=_histograms(evidence),
        bins=BINS,
    )


def _uri(picture: NDArray[np.uint8]) -> str:
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"


def _words(evidence: Evidence, row: int) -> str:
    said = {1.0: "1", 0.0: "0"}
    return ", ".join(
        f"{outcome} {said.get(label, 'unknown')}"
        for outcome, label in zip(evidence.table.outcomes, evidence.rows[row].labels, strict=True)
    )


def _histograms(evidence: Evidence) -> list[Histogram]:
    """Of every outcome; heights relative to the tallest bar of both classes."""
    drawn = []
    for quantity in ("brightness", "contrast"):
        values = np.array([getattr(reading, quantity) for reading in evidence.readings], float)
        top = 1.0 if quantity == "brightness" else 0.5
        for at, outcome in enumerate(evidence.table.outcomes):
            shares = {}
            for value, word in ((1, "with"), (0, "without")):
                mine = values[(evidence.labels[:, at] == value) & np.isfinite(values)]
                if len(mine):
                    counts = np.histogram(np.clip(mine, 0, top), BINS, (0, top))[0]
                    shares[word] = counts / len(mine)
            if shares:
                tallest = max(float(share.max()) for share in shares.values())
                bars = {word: (s / tallest).round(3).tolist() for word, s in shares.items()}
                drawn.append(Histogram(quantity, outcome, bars))
    return drawn
