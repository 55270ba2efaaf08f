"""A radiograph is shown with the contrast that it was drawn with, or a remark says why not."""

import io

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.chest import CHEST, SIDE, chest, difference, read, with_chunk, with_element
from support.dicom import dicom

from fedrad.client.images import UnusableImage

TWELVE = (CHEST * 4095).round().astype(int)
AS_DRAWN, BY_PERCENTILES = 0.01, 0.08
"""Differences from what was drawn that are allowed: percentiles stretch it somewhat."""


def png(values: np.ndarray) -> bytes:
    return imagecodecs.png_encode(np.clip(values, 0, 65535).astype(np.uint16))


@pytest.mark.parametrize(
    "window",
    [(32768, 65535), (8192, 16384), (4096, 8192), (128, 256), (40, 400), (0, 3000), (4095, 200)],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_of_other_pixels_is_not_used(window, photometric):
    centre, width = window
    stored = 4095 - TWELVE if photometric == "MONOCHROME1" else TWELVE
    if photometric == "MONOCHROME1":
        centre = 4095 - centre if centre < 4095 else centre
    tags = {"WindowCenter": centre, "WindowWidth": width}
    radiograph = read(dicom(stored, PhotometricInterpretation=photometric, **tags))
    assert radiograph.reading.remarks == ("window not of these pixels",)
    assert difference(radiograph) < BY_PERCENTILES


def test_the_window_of_another_rescale_is_not_used():
    tags = {"WindowCenter": 0, "WindowWidth": 2000, "RescaleSlope": 1, "RescaleIntercept": -1024}
    radiograph = read(dicom(TWELVE, **tags))
    assert radiograph.reading.remarks == ("window not of these pixels",)
    assert difference(radiograph) < BY_PERCENTILES


@pytest.mark.parametrize("window", [(2048, 4096), (1800, 3600), (2300, 4600), (2048, 3000)])
def test_a_window_of_these_pixels_is_used(window):
    radiograph = read(dicom(TWELVE, WindowCenter=window[0], WindowWidth=window[1]))
    assert radiograph.reading.remarks == ()
    assert radiograph.reading.scheme == "window"


@pytest.mark.parametrize("air", [0.1, 0.2])
def test_air_beside_the_body_does_not_make_up_for_a_white_body(air):
    """The air is grey in this window, and all of the body white."""
    margin = int(air * SIDE)
    stored = TWELVE.copy()
    ramp = np.linspace(20, 240, margin)
    stored[:, :margin], stored[:, -margin:] = ramp, ramp[::-1]
    radiograph = read(dicom(stored, WindowCenter=128, WindowWidth=256))
    assert "window not of these pixels" in radiograph.reading.remarks


@pytest.mark.parametrize(
    "values",
    [
        CHEST * 255,
        CHEST * 8191,
        CHEST * 4095 + 2048,
        CHEST * 1023 + 31000,
        CHEST * 4095 * 0.2,
        CHEST * 65535,
        40000 - CHEST * 0 + CHEST * 255,
    ],
)
def test_a_16_bit_png_is_shown_by_its_values_whatever_its_range(values):
    radiograph = read(png(values))
    assert radiograph.reading.remarks == ("contrast from the values",)
    assert difference(radiograph) < BY_PERCENTILES


@pytest.mark.parametrize("side", [2, 10, 24])
@pytest.mark.parametrize("level", [0, 65535])
def test_a_burned_in_marker_has_no_part_in_the_contrast(side, level):
    marked = CHEST * 4095 + 2000
    marked[2 : 2 + side, 2 : 2 + side] = level
    radiograph = read(png(marked))
    picture = (radiograph.picture[side + 4 :].astype(float) + 1024) / 2048
    assert np.abs(picture - CHEST[side + 4 :]).mean() < BY_PERCENTILES


def test_two_images_of_one_detector_are_scaled_alike_on_both_sides_of_a_power_of_two():
    """Until now white was the next of 10, 12, 14 or 16 bits above the image's own maximum."""
    below, above = read(png(CHEST * 4095)), read(png(CHEST * 4110))
    np.testing.assert_allclose(below.picture, above.picture, atol=12)


@pytest.mark.parametrize("shift", [0, 4])
def test_a_png_that_states_its_significant_bits_is_scaled_by_them(shift):
    """By the standard they are the upper bits; some writers leave them in the lower ones."""
    radiograph = read(with_chunk(png(TWELVE << shift), b"sBIT", bytes([12])))
    assert radiograph.reading.remarks == ()
    assert difference(radiograph) < AS_DRAWN


@pytest.mark.parametrize(
    "eight",
    [CHEST * 16, CHEST * 50, 120 + CHEST * 12, 225 + CHEST * 30],
    ids=["black", "dark", "flat", "bright"],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_of_8_bits_that_nobody_can_look_at_is_stretched_and_named(kind, eight):
    Image.fromarray(eight.round().astype(np.uint8)).save(file := io.BytesIO(), kind, quality=100)
    radiograph = read(file.getvalue())
    assert radiograph.reading.remarks == ("dark or flat",)
    assert difference(radiograph) < 0.12


def test_a_picture_of_black_and_white_alone_is_named():
    Image.fromarray(CHEST > 0.5).save(file := io.BytesIO(), "PNG")
    assert read(file.getvalue()).reading.remarks == ("dark or flat",)


@pytest.mark.parametrize(("gamma", "noted"), [(45455, False), (100000, True)])
def test_a_gamma_that_is_not_that_of_a_screen_is_named(gamma, noted):
    Image.fromarray((CHEST * 255).round().astype(np.uint8)).save(file := io.BytesIO(), "PNG")
    radiograph = read(with_chunk(file.getvalue(), b"gAMA", gamma.to_bytes(4, "big")))
    assert ("transparency or gamma" in radiograph.reading.remarks) == noted


@pytest.mark.parametrize("colours", ["P", "RGB", "L"])
def test_a_transparent_picture_is_named(colours):
    picture = Image.fromarray((CHEST * 255).round().astype(np.uint8)).convert(colours)
    transparent = (30, 30, 30) if colours == "RGB" else 30
    picture.save(file := io.BytesIO(), "PNG", transparency=transparent)
    assert "transparency or gamma" in read(file.getvalue()).reading.remarks


def test_a_picture_in_the_colours_of_a_printer_is_set_aside():
    picture = Image.fromarray((CHEST * 255).round().astype(np.uint8)).convert("CMYK")
    picture.save(file := io.BytesIO(), "JPEG")
    with pytest.raises(UnusableImage, match="CMYK"):
        read(file.getvalue())


GRAVE = {"window not of these pixels", "window unreadable", "dark or flat"}


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(8, 16),
    signed=st.booleans(),
    inverted=st.booleans(),
    used=st.floats(0.05, 1),
    offset=st.floats(0, 1),
    gamma=st.floats(0.6, 1.6),
    slope=st.sampled_from([0.25, 1.0, 2.5]),
    intercept=st.sampled_from([-1024.0, 0.0, 300.0]),
    window=st.sampled_from(["right", "none", "other bits", "too narrow", "elsewhere"]),
    seed=st.integers(0, 5),
)
def test_every_monotone_change_of_the_grey_scale_is_shown_as_drawn_or_named(
    bits, signed, inverted, used, offset, gamma, slope, intercept, window, seed
):
    """Gamma, depth, sign, offset, rescale, polarity, and right or wrong windows."""
    drawn = chest(seed=seed) ** gamma
    room = 2**bits - 1
    span = max(used * room, 60)
    low = offset * (room - span) - (2 ** (bits - 1) if signed else 0)
    stored = (low + span * (1 - drawn if inverted else drawn)).round().astype(np.int64)
    tags = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    first, last = (v * slope + intercept for v in (low, low + span))
    widths = {"right": 1.0, "other bits": 6.0, "too narrow": 0.1, "elsewhere": 1.0}
    if window in widths:
        tags["VOILUTFunction"] = "LINEAR_EXACT"
        middle = (first + last) / 2 + (3 * (last - first) if window == "elsewhere" else 0)
        tags |= {
            "WindowCenter": round(middle, 3),
            "WindowWidth": round((last - first) * widths[window], 3),
        }
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    radiograph = read(
        dicom(stored, bits=bits, signed=signed, PhotometricInterpretation=photometric, **tags)
    )
    noted = set(radiograph.reading.remarks)
    assert difference(radiograph, drawn) < 0.15 or noted & GRAVE
    if window == "right":
        assert not noted & GRAVE
        assert difference(radiograph, drawn) < AS_DRAWN + 1 / 60
    if window == "none":
        assert difference(radiograph, drawn) < 0.15


def test_an_unreadable_window_is_not_taken_for_none():
    radiograph = read(with_element(dicom(TWELVE, WindowCenter=2048), "WindowWidth", b"wide"))
    assert radiograph.reading.remarks == ("window unreadable",)
    assert difference(radiograph) < BY_PERCENTILES
