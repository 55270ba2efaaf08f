"""Checks of the content of the images, by their tags and pixels."""

import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedrad.client.cohort.evidence import Evidence
from fedrad.client.images import REMARKS, Remark

from .check import Check, CheckFinding, Severity

CHEST = re.compile(r"chest|thorax|thorac|lung|pulmo|rib|heart|^$", re.IGNORECASE)
LATERAL = re.compile(r"^(LL|RL|LLO|RLO|LLD|RLD|L|R|LAT.*|.*LATERAL.*)$", re.IGNORECASE)

LEAST_LIKENESS = 0.2
"""Correlation with the site's median picture (16 x 16 pixels) below which an image counts as no
frontal chest. Of 2,887 real chests 0.8 % lie below; feet and hips have -0.4 to 0.2."""
TURNED_MARGIN = 0.2
"""An image counts as turned if turning it raises its correlation with the median picture by more
than this. It works best where all chests of a site are framed alike: the share of images turned by
90 degrees that is detected is 1 at NIH, 0.8 to 0.9 at Hannover and 0.2 at Guangzhou; 11 of 2,887
upright images are flagged too."""
FEWEST_IMAGES = 30
"""Fewest images from which a typical picture of the site can be computed."""
OUTLIER_DEVIATIONS = 5.0
"""Robust standard deviations from the median beyond which a value is an outlier."""

# In brackets: 2,887 radiographs of four hospitals, as their 8 bits and as percentiles show them.
SOUND_RANGES = {"brightness": (0.2, 0.87), "contrast": (0.06, 0.42)}
"""Mean and standard deviation of a sound image's grey values (0.25 to 0.83; 0.064 to 0.37)."""
USUAL_MEDIANS = {"brightness": (0.35, 0.7), "contrast": (0.11, 0.32)}
"""The same of a site's median (0.49 to 0.62; 0.14 to 0.27)."""
FEWEST_OF_A_KIND, SPAN_RATIO = 5, 4
"""Images of one kind from which their ranges of values are compared; how much wider or narrower
than the median a range must be (real: 2.0 times)."""


class LateralViews(Check[Evidence]):
    """Lateral views."""

    name = "lateral views"
    problem = "Lateral views look unlike frontal ones; if one class has more, the view is learnt."
    remedy = "Leave lateral views out, or make a separate experiment of them."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding, by View Position or by the column `view` of the table."""
        lateral = [
            (row.name,)
            for row, reading in zip(subject.rows, subject.readings, strict=True)
            if any(LATERAL.match(view) for view in (reading.tags.view, row.values.get("view", "")))
        ]
        if lateral:
            yield CheckFinding(f"lateral views by their tag or the table: {len(lateral)}", lateral)


class NotFrontalChest(Check[Evidence]):
    """Other body parts and turned images."""

    name = "not a frontal chest"
    problem = "Other body parts, turned or inverted images teach the network something else."
    remedy = "Look at these images, and leave out or correct those that are no upright chest."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """By Body Part Examined, and by pixels if there are enough images to compare with."""
        names = [(row.name,) for row in subject.rows]
        parts = [
            (f"{row.name}: {reading.tags.body_part}",)
            for row, reading in zip(subject.rows, subject.readings, strict=True)
            if not CHEST.search(reading.tags.body_part)
        ]
        if parts:
            yield CheckFinding(f"{len(parts)} files name another body part", parts)
        if len(names) < FEWEST_IMAGES:
            return
        upright, turned = likeness(subject.thumbnails)
        sideways = turned > upright + TURNED_MARGIN
        unlike = (upright < LEAST_LIKENESS) & ~sideways
        for flagged, what in (
            (sideways, "are more like the site's other images when turned by 90 or 180 degrees"),
            (unlike, "do not look like the site's other images"),
        ):
            if flagged.any():
                yield CheckFinding(
                    f"{flagged.sum()} images {what}",
                    [names[row] for row in np.flatnonzero(flagged)],
                )


def likeness(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlation of each picture with the site's median picture, at 16 x 16 pixels.

    Returns it for the picture as it is (n,), and the highest of the three turned ones (n,).
    """
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
    """Images whose brightness, contrast or size is far from that of the site's other images."""

    name = "outliers"
    problem = (
        "Images far darker, brighter, flatter or smaller than the others, or than those of other "
        "hospitals, are often faulty."
    )
    remedy = "Look at them in check.html; what is faulty should be exported again or left out."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding per quantity: images outside SOUND_RANGES; all of them, if their median is
        outside USUAL_MEDIANS; and images more than OUTLIER_DEVIATIONS · 1.4826 MAD from the
        median. The MAD has a lower limit, so that differences too small to matter are ignored."""
        yield from self._absolute(subject)
        if len(subject.rows) < FEWEST_IMAGES:
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
            far = np.flatnonzero(known & (distance > OUTLIER_DEVIATIONS * spread))
            if len(far):
                yield CheckFinding(
                    f"outliers in {what}: {len(far)}",
                    [(subject.rows[row].name,) for row in far],
                )

    def _absolute(self, subject: Evidence) -> Iterator[CheckFinding]:
        """What is unlike the images of any hospital, however usual it is at this one."""
        for what, (low, high) in SOUND_RANGES.items():
            values = np.array([getattr(reading, what) for reading in subject.readings])
            if not np.isfinite(values).any():
                continue
            median, (least, most) = float(np.nanmedian(values)), USUAL_MEDIANS[what]
            if not least <= median <= most:
                yield CheckFinding(
                    f"the site's images as a whole have a {what} of {median:.2f}; those of other "
                    f"hospitals have {least:.2f} to {most:.2f}: look whether all were exported so"
                )
            far = np.flatnonzero((values < low) | (values > high))
            if len(far):
                yield CheckFinding(
                    f"{what} unlike that of any sound radiograph: {len(far)}",
                    [(subject.rows[row].name,) for row in far],
                )


class GreyScales(Check[Evidence]):
    """Images of one kind whose contrast was chosen from very different ranges of values."""

    name = "grey scales"
    problem = (
        "The contrast of these images was chosen from the values of each. If the images of one "
        "kind have very different ranges, some were exported with another scale."
    )
    remedy = "Look at them in check.html; export all of a kind in the same way, or with a window."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding for each kind (size, bits, device) with such images."""
        kinds: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for row, reading in enumerate(subject.readings):
            t = reading.tags
            if np.isfinite(reading.span):
                kinds[t.rows, t.columns, t.bits, t.manufacturer, t.model].append(row)
        for (rows, columns, *_), members in kinds.items():
            spans = np.array([subject.readings[row].span for row in members])
            ratio = spans / np.median(spans)
            far = np.flatnonzero((ratio > SPAN_RATIO) | (ratio < 1 / SPAN_RATIO))
            if len(members) >= FEWEST_OF_A_KIND and len(far):
                yield CheckFinding(
                    f"{len(far)} of {len(members)} images of {rows} x {columns} pixels have a "
                    f"range of values more than {SPAN_RATIO} times as wide or narrow as the others",
                    [(subject.rows[members[one]].name,) for one in far],
                )


WARNING_REMARKS: tuple[Remark, ...] = (
    "burned-in annotation",
    "suspected inverted",
    "whole body",
    "no lungs found",
    "window not of these pixels",
    "window unreadable",
    "dark or flat",
    "suspected cut",
    "header states too few bits",
    "header states other bits",
    "header states other sign",
)


class ReadingRemarks(Check[Evidence]):
    """Remarks made while the files were read."""

    name = "remarks of reading"
    problem = "Some files are unusual, or had to be read in another way."
    remedy = "Each remark says what to do; look at some of these images in check.html."

    def findings(self, subject: Evidence) -> Iterator[CheckFinding]:
        """One finding per kind of remark; most have the severity "information"."""
        files: dict[Remark, list[tuple[str, ...]]] = defaultdict(list)
        for row, reading in zip(subject.rows, subject.readings, strict=True):
            for remark in reading.remarks:
                files[remark].append((row.name,))
        for remark, names in files.items():
            severity: Severity = "warning" if remark in WARNING_REMARKS else "information"
            yield CheckFinding(f"{len(names)} files: {remark}: {REMARKS[remark]}", names, severity)
