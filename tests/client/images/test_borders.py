"""Pixels outside the exposed field are neither shown nor counted."""

import numpy as np
import pytest
from matplotlib.path import Path
from scipy.ndimage import binary_dilation, binary_erosion
from support.dicom import dicom, full_window, stored_ramp

from fedrad.client.images import InputSettings, read_radiograph
from fedrad.client.images.borders import exposed_field

SIDE = 64
RAMP = stored_ramp(12) // 4 + 1
"""Never black by its own values, so that what is black was hidden."""
ROW, COLUMN = np.mgrid[1 : SIDE + 1, 1 : SIDE + 1]
"""Lines and columns as DICOM counts them."""


def picture(tags, stored=RAMP):
    return read_radiograph(dicom(stored, **tags), InputSettings(size=SIDE)).picture


RECTANGLE = {
    "ShutterUpperHorizontalEdge": 9,
    "ShutterLowerHorizontalEdge": 60,
    "ShutterLeftVerticalEdge": 5,
    "ShutterRightVerticalEdge": 50,
}
IN_RECTANGLE = (ROW >= 9) & (ROW <= 60) & (COLUMN >= 5) & (COLUMN <= 50)
CIRCLE = {"CenterOfCircularShutter": [30, 36], "RadiusOfCircularShutter": 20}
IN_CIRCLE = (ROW - 30) ** 2 + (COLUMN - 36) ** 2 <= 20**2
CORNERS = [(5, 10), (8, 58), (60, 50), (40, 30), (55, 6)]
POLYGON = {"VerticesOfThePolygonalShutter": [n for corner in CORNERS for n in corner]}


POINTS = np.column_stack([ROW.ravel(), COLUMN.ravel()])
IN_POLYGON = Path(CORNERS, closed=False).contains_points(POINTS).reshape(SIDE, SIDE)
"""By another library."""


@pytest.mark.parametrize(
    ("shape", "tags", "inside"),
    [
        ("RECTANGULAR", RECTANGLE, IN_RECTANGLE),
        ("CIRCULAR", CIRCLE, IN_CIRCLE),
        (["RECTANGULAR", "CIRCULAR"], RECTANGLE | CIRCLE, IN_RECTANGLE & IN_CIRCLE),
    ],
)
def test_what_a_shutter_hides_is_black_and_nothing_else(shape, tags, inside):
    stored = np.where(inside, RAMP, 4095)
    shown = picture({"ShutterShape": shape, **tags}, stored)
    assert (shown[~inside] == -1024).all()
    low, high = np.percentile(RAMP[inside], (0.5, 99.5))
    expected = np.clip((RAMP[inside] - low) / (high - low), 0, 1) * 2048 - 1024
    np.testing.assert_allclose(shown[inside], expected, atol=40, err_msg="contrast from inside")


def test_a_polygonal_shutter_shows_what_lies_within_its_corners():
    outer, inner = binary_dilation(IN_POLYGON), binary_erosion(IN_POLYGON)
    outer[tuple(np.transpose(CORNERS) - 1)] = True
    stored = np.where(outer, RAMP, 4095)
    window = full_window(np.array([0, RAMP.max()]))
    shown = picture({"ShutterShape": "POLYGONAL", **POLYGON, **window}, stored)
    assert (shown[~outer] == -1024).all()
    assert (shown[inner] > -1024).all()
    for row, column in CORNERS:
        assert shown[row - 1, column - 1] > -1024, "a corner is still shown"


@pytest.mark.parametrize(
    "tags",
    [
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "RECTANGULAR", **RECTANGLE, "ShutterLowerHorizontalEdge": 3},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [30]},
        {"ShutterShape": "CIRCULAR", **CIRCLE, "RadiusOfCircularShutter": 0},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 9, 9]},
        {"ShutterShape": "ROUND", **CIRCLE},
    ],
)
def test_a_shutter_that_is_empty_or_covers_everything_hides_nothing(tags):
    np.testing.assert_array_equal(picture(tags), picture({}))


def body(rng, rows=300, columns=260):
    """Something with structure along every line."""
    row, column = np.mgrid[:rows, :columns]
    waves = np.sin(row / 23) * np.cos(column / 17) + 0.3 * np.sin(row / 5 + column / 7)
    return (0.5 + 0.25 * waves + rng.normal(0, 0.02, (rows, columns))).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, 0.45, 1.0])
@pytest.mark.parametrize("margins", [(0, 0, 0, 0), (12, 20, 9, 31), (90, 0, 0, 0), (0, 0, 60, 60)])
def test_collimated_margins_are_detected_whatever_their_brightness(level, margins):
    rng = np.random.default_rng(0)
    image = body(rng)
    top, bottom, left, right = margins
    framed = np.full_like(image, level) + rng.normal(0, 0.002, image.shape).astype(np.float32)
    inside = np.s_[top : 300 - bottom, left : 260 - right]
    framed[inside] = image[inside]
    if top >= 12:
        framed[2:10, 100:110] = 1 - level  # a lead letter
    field = exposed_field(framed, None)
    edges = (field[0].start, 300 - field[0].stop, field[1].start, 260 - field[1].stop)
    np.testing.assert_allclose(edges, margins, atol=3)


def test_collimation_has_no_part_in_the_contrast():
    image = body(np.random.default_rng(1), 200, 200)
    stored = (image * 1000 + 500).round().astype(int)
    framed = stored.copy()
    framed[:30], framed[-25:], framed[:, :20], framed[:, -40:] = 4000, 4000, 4000, 4000
    inside = np.s_[32:172, 22:158]
    with_margin, without = (
        read_radiograph(dicom(s), InputSettings(size=200)).picture[inside] for s in (framed, stored)
    )
    np.testing.assert_allclose(with_margin, without, atol=60)


def test_an_even_image_keeps_its_whole_field():
    even = np.full((50, 40), 0.3, np.float32)
    assert exposed_field(even, None) == (slice(0, 50), slice(0, 40))
