"""A number that is in the header and cannot be read is never taken as if it were absent."""

import numpy as np
import pytest
from support.chest import CHEST, SIDE, difference, read, with_element
from support.dicom import dicom

from fedrad.client.images import InputSettings, UnusableImage, read_radiograph

TWELVE = (CHEST * 4095).round().astype(int)
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
HALF = {"WindowCenter": 1024, "WindowWidth": 2048}
"""The window after a slope of 0.5."""


@pytest.mark.parametrize("vr", ["DS", "UN", "LO"])
@pytest.mark.parametrize(
    "text", [b"0,5", b"0.5", b" ,5", b"5E-1", b"+0,500", b"5,0e-1", b"0.5\\0,5"]
)
def test_a_slope_with_a_decimal_comma_is_read(text, vr):
    radiograph = read(with_element(dicom(TWELVE, **HALF), "RescaleSlope", text, vr))
    assert radiograph.reading.remarks == ()
    assert difference(radiograph) < 0.01


UNREADABLE = [
    b"1.0.0",
    b"one",
    b"nan",
    b"inf",
    b"0x1",
    b"1 0",
    b"1_0",
    b"1,024",
    b"1.024,5",
    b"-",
    b"1e400",
    b"1\\2",
]


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept", "NumberOfFrames"])
@pytest.mark.parametrize("text", UNREADABLE)
def test_an_unreadable_number_sets_the_file_aside_by_the_name_of_its_element(keyword, text):
    with pytest.raises(UnusableImage, match=keyword) as caught:
        read(with_element(dicom(TWELVE, **WINDOW), keyword, text))
    assert text.decode() not in str(caught.value)


@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("text", [*UNREADABLE[:-1], b"", b"\\"])
def test_an_unreadable_window_is_replaced_with_a_remark(keyword, text):
    radiograph = read(with_element(dicom(TWELVE, **WINDOW), keyword, text))
    assert radiograph.reading.remarks == ("window unreadable",)
    assert difference(radiograph) < 0.08


@pytest.mark.parametrize("width", [b"0", b"-400", b"0,0"])
def test_a_window_without_width_is_replaced_with_a_remark(width):
    radiograph = read(with_element(dicom(TWELVE, **WINDOW), "WindowWidth", width))
    assert radiograph.reading.remarks == ("window unreadable",)


def test_of_windows_with_an_empty_place_the_pair_that_is_there_is_used():
    data = with_element(dicom(TWELVE), "WindowCenter", b"\\2047,5")
    radiograph = read(with_element(data, "WindowWidth", b"\\4095,5"))
    assert radiograph.reading.scheme == "window"
    assert radiograph.reading.remarks == ()
    assert difference(radiograph) < 0.01


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagerPixelSpacing"])
def test_spacing_with_decimal_commas_gives_true_proportions(keyword):
    """Pixels are twice as high as wide."""
    squashed = TWELVE.reshape(SIDE // 2, 2, SIDE).mean(axis=1).round().astype(int)
    radiograph = read(with_element(dicom(squashed, **WINDOW), keyword, b"0,286\\0,143"))
    assert radiograph.reading.remarks == ("non-square pixels",)
    assert difference(radiograph) < 0.02


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("PixelSpacing", b"0.143,0.286"),
        ("PixelSpacing", b"a\\b"),
        ("PixelSpacing", b"0,143"),
        ("PixelSpacing", b"1\\2\\3"),
        ("PixelSpacing", b"-1\\1"),
        ("PixelSpacing", b"1\\100"),
        ("ImagerPixelSpacing", b"x"),
        ("PixelAspectRatio", b"1,2"),
        ("PixelAspectRatio", b"1:2"),
    ],
)
def test_pixels_of_an_unreadable_shape_are_not_taken_for_square(keyword, text):
    with pytest.raises(UnusableImage, match=keyword):
        read(with_element(dicom(TWELVE, **WINDOW), keyword, text))


@pytest.mark.parametrize("text", [b"", b"\\", b"0\\0"])
def test_an_empty_spacing_or_noughts_say_nothing(text):
    radiograph = read(with_element(dicom(TWELVE, **WINDOW), "PixelSpacing", text))
    assert radiograph.reading.remarks == ()


def test_a_ratio_of_one_number_that_is_one_says_that_pixels_are_square():
    radiograph = read(with_element(dicom(TWELVE, **WINDOW), "PixelAspectRatio", b"1"))
    assert radiograph.reading.remarks == ()
    with pytest.raises(UnusableImage, match="PixelAspectRatio"):
        read(with_element(dicom(TWELVE, **WINDOW), "PixelAspectRatio", b"2"))


@pytest.mark.parametrize("keyword", ["Rows", "Columns"])
def test_a_file_that_does_not_say_how_large_it_is_is_set_aside(keyword):
    with pytest.raises(UnusableImage, match="Rows or Columns is not in the header"):
        read(with_element(dicom(TWELVE, **WINDOW), keyword, b"", "US"))


@pytest.mark.parametrize("text", [b"1,0", b"1.0", b"1 ", b"0", b""])
def test_one_frame_however_it_is_written(text):
    radiograph = read(with_element(dicom(TWELVE, **WINDOW), "NumberOfFrames", text))
    assert difference(radiograph) < 0.01


def test_what_describes_the_exposure_may_be_unreadable():
    for keyword in ("KVP", "Exposure", "ExposureIndex"):
        radiograph = read(with_element(dicom(TWELVE, **WINDOW), keyword, b"many"))
        assert radiograph.reading.remarks == ()
    assert read(with_element(dicom(TWELVE), "KVP", b"80,5")).reading.tags.kvp == 80.5


def test_an_unreadable_padding_value_or_shutter_sets_the_file_aside():
    for keyword, vr in (("PixelPaddingValue", "LO"), ("ShutterLeftVerticalEdge", "IS")):
        data = dicom(TWELVE, ShutterShape="RECTANGULAR", **WINDOW)
        with pytest.raises(UnusableImage, match=keyword):
            read(with_element(data, keyword, b"left", vr))


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("Modality", b"cr"),
        ("Modality", b" Dx"),
        ("Modality", b"C R_"),
        ("Modality", b"CR\\DX"),
        ("Modality", b"dx/cr"),
        ("PhotometricInterpretation", b"monochrome2"),
        ("PhotometricInterpretation", b"MONOCHROME 2"),
        ("PhotometricInterpretation", b"Monochrome_2"),
        ("PhotometricInterpretation", b"MONOCHROME2\\"),
        ("PresentationIntentType", b"for presentation"),
        ("PresentationIntentType", b"FOR_PRESENTATION"),
        ("VOILUTFunction", b"linear"),
        ("VOILUTFunction", b"Linear Exact"),
        ("BurnedInAnnotation", b"no"),
        ("PresentationLUTShape", b"Identity"),
    ],
)
def test_case_blanks_and_underscores_of_codes_do_not_count(keyword, text):
    radiograph = read(with_element(dicom(TWELVE, **WINDOW), keyword, text))
    assert radiograph.reading.remarks == ()
    assert difference(radiograph) < 0.01


def test_codes_are_kept_as_the_standard_writes_them():
    data = with_element(dicom(TWELVE, **WINDOW), "Modality", b"cr ")
    data = with_element(data, "PhotometricInterpretation", b"monochrome 2")
    data = with_element(data, "ViewPosition", b"postero-anterior")
    tags = read(data).reading.tags
    assert (tags.modality, tags.photometric, tags.view) == ("CR", "MONOCHROME2", "PA")


@pytest.mark.parametrize("text", [b"yes", b"Y", b"perhaps"])
def test_burned_in_text_is_ruled_out_by_no_alone(text):
    radiograph = read(with_element(dicom(TWELVE, **WINDOW), "BurnedInAnnotation", text))
    assert radiograph.reading.remarks == ("burned-in annotation",)


@pytest.mark.parametrize(
    ("keyword", "text", "reason"),
    [
        ("Modality", b"ct", "modality CT: only radiographs"),
        ("Modality", b"CR\\CT", "modality CT: only radiographs"),
        ("Modality", b"DOE^JANE", "modality that is no code"),
        ("PhotometricInterpretation", b"MONOCHROME", "photometric interpretation MONOCHROME, not"),
        ("PhotometricInterpretation", b"", "photometric interpretation missing"),
        ("PresentationIntentType", b"for-processing", "a FOR PROCESSING image"),
        ("PresentationIntentType", b"DOE^JANE", "that is no code"),
    ],
)
def test_a_code_that_is_not_understood_is_named_and_a_name_is_not(keyword, text, reason):
    with pytest.raises(UnusableImage, match=reason) as caught:
        read(with_element(dicom(TWELVE, **WINDOW), keyword, text))
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize("shape", [b"ROUND", b"RECTANGULAR"])
def test_a_shutter_of_unknown_shape_or_edges_is_named(shape):
    radiograph = read(with_element(dicom(TWELVE, **WINDOW), "ShutterShape", shape))
    assert radiograph.reading.remarks == ("shutter unreadable",)


def test_a_rectangular_shutter_in_lower_case_hides():
    edges = dict(zip(("Upper", "Lower"), (9, SIDE), strict=True))
    tags = {f"Shutter{edge}HorizontalEdge": value for edge, value in edges.items()}
    tags |= {"ShutterLeftVerticalEdge": 1, "ShutterRightVerticalEdge": SIDE}
    data = with_element(dicom(TWELVE, **WINDOW, **tags), "ShutterShape", b"rectangular")
    picture = read_radiograph(data, InputSettings(size=SIDE)).picture
    assert (picture[:8] == np.float16(-1024)).all()
