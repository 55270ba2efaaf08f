"""Checks of what the images show, as far as tags and pixels tell."""

import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedrad.client.cohort.evidence import Evidence
from fedrad.client.images import REMARKS, Remark

from .check import Check, Finding, Severity

CHEST = re.compile(r"chest|thorax|thorac|lung|pulmo|rib|heart|^$", re.IGNORECASE)
LATERAL = re.compile(r"^(LL|RL|LLO|RLO|LLD|RLD|L|R|LAT.*|.*LATERAL.*)$", re.IGNORECASE)

UNLIKE = 0.2
"""Correlation with the site's median picture, 16 x 16 pixels, below which an image is no frontal
chest like the others. Of 2,887 real chests 0.8 % lie below; feet and hips at -0.4 to 0.2."""
TURNED = 0.2
"""By how much a turned picture must be more like the median for it to lie on its side. Fair where
a site's chests are alike in framing: at 0.2, of images turned by 90 degrees all are found at NIH,
0.8 to 0.9 at Hannover and 0.2 at Guangzhou; 11 of 2,887 upright ones are too."""
MANY = 30
"""Fewest images for the site's own average to say anything."""
FAR = 5.0
"""Robust standard deviations from the median that make an outlier."""


class Lateral(Check[Evidence]):
    """Lateral views."""

    name = "lateral views"
    problem = (
        "Lateral views look unlike frontal ones; where one class has more, the view is learnt."
    )
    remedy = "Leave lateral views out, or make an experiment of their own."

    def findings(self, subject: Evidence) -> Iterator[Finding]:
        """By View Position, or by the column `view` of the table."""
        found = [
            (row.name,)
            for row, reading in zip(subject.rows, subject.readings, strict=True)
            if any(LATERAL.match(view) for view in (reading.tags.view, row.values.get("view", "")))
        ]
        if found:
            yield Finding(f"lateral views by their tag or the table: {len(found)}", found)


class NotTheChest(Check[Evidence]):
    """Other parts of the body, turned and inverted pictures."""

    name = "not a frontal chest"
    problem = "Other body parts, turned or inverted images teach the network something else."
    remedy = "Look at these images, and leave out or correct those that are no upright chest."

    def findings(self, subject: Evidence) -> Iterator[Finding]:
        """By Body Part Examined; by pixels where there are enough images to compare with."""
        names = [(row.name,) for row in subject.rows]
        parts = [
            (f"{row.name}: {reading.tags.body_part}",)
            for row, reading in zip(subject.rows, subject.readings, strict=True)
            if not CHEST.search(reading.tags.body_part)
        ]
        if parts:
            yield Finding(f"{len(parts)} files name another body part", parts)
        if len(names) < MANY:
            return
        upright, turned = likeness(subject.thumbnails)
        sideways = turned > upright + TURNED
        unlike = (upright < UNLIKE) & ~sideways
        for found, what in (
            (sideways, "are more like the site's other images when turned by 90 or 180 degrees"),
            (unlike, "do not look like the site's other images"),
        ):
            if found.any():
                yield Finding(
                    f"{found.sum()} images {what}", [names[row] for row in np.flatnonzero(found)]
                )


def likeness(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlation (n,) of each picture with the site's median picture, at 16 x 16 pixels: as it
    is, and the best of the three turned ones."""
    side = thumbnails.shape[1] // 16
    coarse = thumbnails.reshape(len(thumbnails), 16, side, 16, side).mean(axis=(2, 4))

    def standard(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = pictures.reshape(len(pictures), -1)
        flat = flat - flat.mean(axis=1, keepdims=True)
        return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9))

    median = standard(np.median(standard(coarse), axis=0)[None])[0]
    turned = [standard(np.rot90(coarse, k, (1, 2))) @ median for k in (1, 2, 3)]
    return standard(coarse) @ median, np.max(turned, axis=0)


class Outliers(Check[Evidence]):
    """Brightness, contrast and size far from the site's others."""

    name = "outliers"
    problem = "Images far darker, brighter, flatter or smaller than the others are often faulty."
    remedy = "Look at them in check.html; what is faulty should be exported again or left out."

    def findings(self, subject: Evidence) -> Iterator[Finding]:
        """More than 5 robust standard deviations (1.4826 MAD) from the median; spreads that are
        too small to matter do not count."""
        if len(subject.rows) < MANY:
            return
        tags = [reading.tags for reading in subject.readings]
        with np.errstate(divide="ignore", invalid="ignore"):
            rows = np.log([float(t.rows) for t in tags])
            columns = np.log([float(t.columns) for t in tags])
        for what, values, least in (
            ("brightness", np.array([r.brightness for r in subject.readings]), 0.04),
            ("contrast", np.array([r.contrast for r in subject.readings]), 0.02),
            ("number of pixels", rows + columns, 0.28),
            ("shape", rows - columns, 0.08),
        ):
            known = np.isfinite(values)
            if not known.any():
                continue
            distance = np.abs(values - np.median(values[known]))
            spread = max(1.4826 * float(np.median(distance[known])), least)
            far = np.flatnonzero(known & (distance > FAR * spread))
            if len(far):
                yield Finding(
                    f"outliers in {what}: {len(far)}",
                    [(subject.rows[row].name,) for row in far],
                )


GRAVE: tuple[Remark, ...] = (
    "burned-in annotation",
    "suspected inverted",
    "whole body",
    "no lungs found",
    "window not of these pixels",
)


class Remarks(Check[Evidence]):
    """What reading the files brought up."""

    name = "remarks of reading"
    problem = "Some files say something unusual of themselves, or had to be read in another way."
    remedy = "Each remark says what to do; look at some of these images in check.html."

    def findings(self, subject: Evidence) -> Iterator[Finding]:
        """One per kind of remark; most are information."""
        files: dict[Remark, list[tuple[str, ...]]] = defaultdict(list)
        for row, reading in zip(subject.rows, subject.readings, strict=True):
            for remark in reading.remarks:
                files[remark].append((row.name,))
        for remark, names in files.items():
            severity: Severity = "warning" if remark in GRAVE else "information"
            yield Finding(f"{len(names)} files: {remark}: {REMARKS[remark]}", names, severity)
