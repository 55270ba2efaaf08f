"""Contrast as a display makes it, beside dcmtk's rendering and pydicom's, and on known ramps."""

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torchxrayvision
from PIL import Image
from pydicom import uid
from pydicom.pixels import apply_voi_lut
from support.dicom import RAMP, dicom, full_window, stored_ramp
from support.paths import SHARED

from fedrad.client.images import InputSettings, UnusableImage, read_radiograph
from fedrad.client.images.decoding import stored_pixels
from fedrad.client.images.dicom import open_dicom
from fedrad.client.images.display import display_image

TRUE = RAMP * 2048 - 1024
STORED = stored_ramp(12)
WHOLE = full_window(STORED)
REAL = SHARED / "data" / "dicom" / "radiographs"
FUNCTIONS = ["LINEAR", "LINEAR_EXACT", "SIGMOID"]


def read(data: bytes):
    return read_radiograph(data, InputSettings(size=64))


def shown(data: bytes) -> np.ndarray:
    dataset, _ = open_dicom(data)
    return display_image(stored_pixels(dataset), dataset, None).shown.image


def table(values, *, entries=None, first=0, bits=12, vr="US") -> pydicom.Dataset:
    """An item of a LUT sequence."""
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [entries or len(values), first, bits])
    item.add_new("LUTData", vr, values)
    return item


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("signed", [False, True])
def test_windows_are_those_of_pydicom(function, signed):
    stored = stored_ramp(12, signed)
    centre = 100 if signed else 2100
    data = dicom(
        stored, signed=signed, WindowCenter=centre, WindowWidth=3000, VOILUTFunction=function
    )
    theirs = apply_voi_lut(stored.astype(np.int16), pydicom.dcmread(io.BytesIO(data)))
    low, high = (-2048, 2047) if signed else (0, 4095)
    np.testing.assert_allclose(shown(data), (theirs - low) / (high - low), atol=1e-5)


def theirs(folder: Path, data: bytes, **options) -> np.ndarray:
    """torchxrayvision's picture of a file."""
    (folder / "a.dcm").write_bytes(data)
    return torchxrayvision.utils.read_xray_dcm(folder / "a.dcm", **options)


@pytest.mark.filterwarnings("ignore:Converting MONOCHROME1")
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_our_picture_is_torchxrayvisions_where_that_is_right(tmp_path, bits, photometric):
    """Right for unsigned pixels that need no rescale, seen through the whole range or, with
    `voi_lut`, through a window."""
    stored = stored_ramp(bits)
    whole = dicom(stored, bits=bits, PhotometricInterpretation=photometric, **full_window(stored))
    np.testing.assert_allclose(read(whole).picture, theirs(tmp_path, whole), atol=0.6)
    middle, width = float(2 ** (bits - 1)), float(3 * 2 ** (bits - 2))
    windowed = dicom(
        stored,
        bits=bits,
        PhotometricInterpretation=photometric,
        WindowCenter=middle,
        WindowWidth=width,
    )
    np.testing.assert_allclose(
        read(windowed).picture, theirs(tmp_path, windowed, voi_lut=True), atol=0.6
    )


@pytest.mark.parametrize("fault", ["signed pixels", "rescale", "VOI LUT of other bits"])
def test_our_picture_is_the_true_one_where_torchxrayvisions_is_not(tmp_path, fault):
    """It scales signed values as if they were unsigned, looks through windows without the rescale
    in whose units they are, and takes BitsStored for the range of any LUT."""
    stored = stored_ramp(12, signed=fault == "signed pixels")
    if fault == "signed pixels":
        data = dicom(stored, signed=True, **full_window(stored))
    elif fault == "rescale":
        tags = {"RescaleSlope": 0.25, "RescaleIntercept": -512}
        data = dicom(stored, **tags, **full_window(stored, 0.25, -512))
    else:
        data = dicom(stored, VOILUTSequence=[table(list(range(0, 65536, 16)), bits=16)])
    np.testing.assert_allclose(read(data).picture, TRUE, atol=5)
    try:
        other = theirs(tmp_path, data, voi_lut=True)
    except ValueError as error:
        assert "higher than expected" in str(error)  # noqa: PT017 - a right of theirs, not a claim
    else:
        assert np.abs(other - TRUE).max() > 500


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared radiographs are not here")
@pytest.mark.filterwarnings("ignore:Converting MONOCHROME1")
def test_real_radiographs_are_torchxrayvisions_where_that_is_right():
    compared = 0
    for file in sorted(REAL.glob("*.dcm")):
        dataset, _ = open_dicom(file.read_bytes())
        pixels = stored_pixels(dataset)
        stored, ours = pixels.values, display_image(pixels, dataset, None).shown
        rescaled = (dataset.get("RescaleSlope") or 1, dataset.get("RescaleIntercept") or 0)
        tables = "VOILUTSequence" in dataset
        function = dataset.get("VOILUTFunction", "LINEAR")
        if dataset.PixelRepresentation or tables or rescaled != (1, 0) or function != "LINEAR":
            continue
        if ours.scheme == "window" and stored.max() < 2**dataset.BitsStored:
            other = torchxrayvision.utils.read_xray_dcm(file, voi_lut=True)
            np.testing.assert_allclose(ours.image * 2048 - 1024, other, atol=0.6)
            compared += 1
    assert compared >= 3


@pytest.mark.parametrize("shape", [(64, 64), (80, 64), (64, 101), (65, 64)])
def test_eight_bit_pictures_and_centre_crops_are_torchxrayvisions(tmp_path, shape):
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    whole = torchxrayvision.utils.load_image(str(tmp_path / "a.png"))
    cropped = torchxrayvision.datasets.XRayCenterCrop()(whole)[0]
    data = (tmp_path / "a.png").read_bytes()
    ours = read_radiograph(data, InputSettings(size=64, fit="crop")).picture
    np.testing.assert_allclose(ours, cropped, atol=0.6)


def dcmtk(folder: Path, data: bytes, *choice: str) -> np.ndarray:
    """Rendered by dcmtk, in [0, 1] with 8 bits."""
    (folder / "a.dcm").write_bytes(data)
    subprocess.run(
        ["dcmj2pnm", *choice, "+op", folder / "a.dcm", folder / "a.pgm"],
        check=True,
        capture_output=True,
    )
    return np.asarray(Image.open(folder / "a.pgm"), np.float64) / 255


needs_dcmtk = pytest.mark.skipif(not shutil.which("dcmj2pnm"), reason="dcmtk is not installed")


@needs_dcmtk
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("function", ["LINEAR", "SIGMOID"])
def test_windows_sign_and_polarity_are_those_of_dcmtk(tmp_path, function, signed, photometric):
    data = dicom(
        stored_ramp(12, signed),
        signed=signed,
        PhotometricInterpretation=photometric,
        RescaleSlope=2,
        RescaleIntercept=-50,
        RescaleType="US",
        VOILUTFunction=function,
        WindowCenter=[300 if signed else 4100, 5],
        WindowWidth=[6000, 9],
    )
    np.testing.assert_allclose(shown(data), dcmtk(tmp_path, data, "+Wi", "1"), atol=1.1 / 255)


@needs_dcmtk
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_a_voi_lut_is_that_of_dcmtk(tmp_path, syntax):
    curve = ((np.arange(3000) / 2999) ** 2 * 4095).round().astype(int).tolist()
    data = dicom(STORED, syntax=syntax, VOILUTSequence=[table(curve, first=500)])
    np.testing.assert_allclose(shown(data), dcmtk(tmp_path, data, "+Wl", "1"), atol=1.5 / 255)


@needs_dcmtk
@pytest.mark.skipif(not REAL.is_dir(), reason="the shared radiographs are not here")
@pytest.mark.parametrize("name", sorted(f.name for f in REAL.glob("*.dcm")))
def test_real_radiographs_are_shown_as_by_dcmtk(tmp_path, name):
    """dcmtk has no JPEG 2000, so it is given our stored values: the rendering is compared."""
    dataset, _ = open_dicom((REAL / name).read_bytes())
    pixels = stored_pixels(dataset)
    stored, ours = pixels.values, display_image(pixels, dataset, None).shown
    if ours.scheme == "percentiles":
        pytest.skip("its window shows nothing of it; dcmtk shows nothing")
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    # Lossy coding oversteps the stated bits in a few pixels; dcmtk would drop their highest bit.
    dataset.PixelData = np.minimum(stored, 2**dataset.BitsStored - 1).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset["PixelData"].is_undefined_length = False
    file = io.BytesIO()
    dataset.save_as(file)
    choice = "+Wl" if ours.scheme == "VOI LUT" else "+Wi"
    theirs = dcmtk(tmp_path, file.getvalue(), choice, "1")
    np.testing.assert_allclose(ours.image, theirs, atol=1.5 / 255)


WORDS, BYTES = np.arange(4096), (np.arange(4096) * 255 / 4095).round().astype(np.uint8)


@pytest.mark.parametrize("kind", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize(
    ("item", "syntax"),
    [
        (table(WORDS.tolist()), uid.ExplicitVRLittleEndian),
        (table(WORDS.astype("<u2").tobytes(), entries=4096, vr="OW"), uid.ImplicitVRLittleEndian),
        (table(WORDS.astype(">u2").tobytes(), entries=4096, vr="OW"), uid.ExplicitVRBigEndian),
        (
            table(BYTES[:4095].tobytes() + b"\0", entries=4095, bits=8, vr="OW"),
            uid.ExplicitVRLittleEndian,
        ),
        (table(BYTES.view("<u2").tolist(), entries=4096, bits=8), uid.ExplicitVRLittleEndian),
    ],
    ids=["US", "OW", "OW big endian", "bytes of odd number", "bytes packed in US"],
)
def test_tables_of_every_layout(kind, item, syntax):
    largest = 255 if item.LUTDescriptor[2] == 8 else 4095
    tags = {} if kind == "VOILUTSequence" else full_window(np.array([0, largest]))
    radiograph = read(dicom(STORED, syntax=syntax, **{kind: [item]}, **tags))
    np.testing.assert_allclose(radiograph.picture, TRUE, atol=1024 / largest + 1)
    assert not radiograph.reading.remarks


@pytest.mark.parametrize(
    ("tags", "remarks"),
    [
        ({**WHOLE, "RescaleSlope": None, "RescaleIntercept": None}, ()),
        ({**full_window(STORED, 2), "RescaleSlope": 2}, ()),
        ({**WHOLE, "VOILUTFunction": "UNHEARD OF"}, ("window unreadable",)),
        ({}, ("no window",)),
        ({"WindowCenter": None, "WindowWidth": None}, ("no window",)),
        ({"WindowCenter": 2048, "WindowWidth": 0}, ("window unreadable",)),
        ({"WindowCenter": 2048}, ("window unreadable",)),
        ({"WindowCenter": 60000, "WindowWidth": 100}, ("window not of these pixels",)),
        (
            {"WindowCenter": 60000, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"},
            ("window not of these pixels",),
        ),
        ({"WindowCenter": [2048, 9], "WindowWidth": [4096, 9]}, ("several windows",)),
        ({**WHOLE, "PresentationLUTShape": "INVERSE"}, ("presentation disagrees",)),
        ({**WHOLE, "BurnedInAnnotation": "YES"}, ("burned-in annotation",)),
        ({**WHOLE, "BodyPartExamined": "FOOT"}, ()),
    ],
)
def test_the_true_picture_and_its_remarks(tags, remarks):
    radiograph = read(dicom(STORED, **tags))
    percentiles = {"no window", "window unreadable"} & set(remarks)
    np.testing.assert_allclose(radiograph.picture, TRUE, atol=24 if percentiles else 3)
    assert radiograph.reading.remarks == remarks


def test_a_slope_of_nought_is_refused():
    with pytest.raises(UnusableImage, match="Rescale Slope is 0"):
        read(dicom(STORED, RescaleSlope=0, RescaleIntercept=0))


@pytest.mark.parametrize("vr_and_value", [("SS", -2000), ("US", 63536)])
def test_padding_is_black_and_no_part_of_the_contrast(vr_and_value):
    stored = stored_ramp(12, signed=True)
    stored[:8] = -2000
    dataset = pydicom.dcmread(io.BytesIO(dicom(stored, signed=True)))
    dataset.add_new("PixelPaddingValue", *vr_and_value)
    dataset.save_as(file := io.BytesIO())
    picture = read(file.getvalue()).picture
    assert (picture[:8] == -1024).all()
    np.testing.assert_allclose(picture[8:], TRUE[8:], atol=24)


def test_a_shutter_is_black_and_no_part_of_the_contrast():
    stored = STORED // 4
    stored[:8] = 4095
    edges = dict(
        zip(
            ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical"),
            (9, 64, 1, 64),
            strict=True,
        )
    )
    tags = {f"Shutter{edge}Edge": value for edge, value in edges.items()}
    picture = read(dicom(stored, ShutterShape="RECTANGULAR", **tags)).picture
    assert (picture[:8] == -1024).all()
    np.testing.assert_allclose(picture[8:], TRUE[8:], atol=24)


@pytest.mark.parametrize(
    "keyword",
    ["PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", "NominalScannedPixelSpacing"],
)
def test_pixels_that_are_not_square_are_resampled(keyword):
    radiograph = read(dicom(STORED[:, ::2], **{keyword: [1, 2]}, **WHOLE))
    assert "non-square pixels" in radiograph.reading.remarks
    assert (radiograph.picture[:, 60] > 800).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_oriented_by_exif(orientation):
    whole = Image.fromarray((RAMP * 255).astype(np.uint8))
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's number of the inverse
    stored = whole.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else whole
    stored = stored.copy()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(file := io.BytesIO(), "JPEG", quality=95, exif=exif)
    np.testing.assert_allclose(read(file.getvalue()).picture, TRUE, atol=60)
