"""A file becomes the picture a radiologist would be shown, or is set aside with the reason."""

import contextlib
import io
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from support.dicom import dicom, full_window
from support.paths import SHARED

from fedrad.client.images import InputSettings, UnusableImage, read_radiograph
from fedrad.deploy import phantoms

SHARED = SHARED / "data" / "dicom"


def read_image(path: Path, size: int) -> np.ndarray:
    """The picture of a file."""
    return read_radiograph(path.read_bytes(), InputSettings(size=size)).picture


def write_dicom(path: Path, stored: np.ndarray, *, bits: int = 12, signed: bool = False, **tags):
    """A CR image of stored values, with tags of the pixel chain."""
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    ds.Modality, ds.PhotometricInterpretation, ds.SamplesPerPixel = "CR", "MONOCHROME2", 1
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = (8, 8, 7) if bits == 8 else (16, bits, bits - 1)
    ds.PixelRepresentation = int(signed)
    dtype = np.uint8 if bits == 8 else np.int16 if signed else np.uint16
    ds.PixelData = stored.astype(dtype).tobytes()
    for tag, value in tags.items():
        setattr(ds, tag, value)
    ds.save_as(path, enforce_file_format=True)
    return path


RAMP = np.tile(np.linspace(0, 4095, 64), (64, 1)).round()


def test_the_whole_range_of_a_window_becomes_black_to_white(tmp_path):
    file = write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=4096)
    picture = read_image(file, 64)
    assert picture.shape == (64, 64)
    assert picture.dtype == np.float16
    np.testing.assert_allclose(picture[0], np.linspace(-1024, 1024, 64), atol=3)


def test_monochrome1_is_turned_after_its_window(tmp_path):
    tags = {"WindowCenter": 2000, "WindowWidth": 3200}
    one = write_dicom(tmp_path / "1.dcm", RAMP, PhotometricInterpretation="MONOCHROME1", **tags)
    two = write_dicom(tmp_path / "2.dcm", RAMP, **tags)
    np.testing.assert_allclose(read_image(one, 64), -read_image(two, 64).astype(float), atol=1.5)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_the_same_picture_whatever_the_bits_sign_and_rescale(tmp_path, bits, signed):
    if bits == 8 and signed:
        pytest.skip("8-bit signed radiographs do not occur")
    shown = np.tile(np.linspace(0, 1, 64), (64, 1))
    stored = (shown * (2**bits - 1)).round() - (2 ** (bits - 1) if signed else 0)
    slope, intercept = 0.5, -1024.0
    low, high = (v * slope + intercept for v in (stored.min(), stored.max()))
    file = write_dicom(
        tmp_path / "a.dcm",
        stored,
        bits=bits,
        signed=signed,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=(low + high) / 2 + 0.5,
        WindowWidth=high - low + 1,
    )
    np.testing.assert_allclose(read_image(file, 64), shown * 2048 - 1024, atol=10)


def test_without_a_window_a_percentile_window_shows_the_picture(tmp_path):
    stored = RAMP / 8 + 1000
    stored[0, 0] = 4095  # a dead pixel must not darken the rest
    picture = read_image(write_dicom(tmp_path / "a.dcm", stored), 64)
    assert picture.min() == -1024
    assert picture[32, 60] > 850


def test_a_picture_is_padded_with_black_not_stretched_or_cropped(tmp_path):
    bright = np.tile(np.linspace(100, 255, 80).astype(np.uint8), (40, 1))
    Image.fromarray(bright).save(tmp_path / "wide.png")
    picture = read_image(tmp_path / "wide.png", 80)
    assert (picture[:19] == -1024).all()
    assert (picture[61:] == -1024).all()
    expected = np.broadcast_to(bright[0] / 255 * 2048 - 1024, (38, 80))
    np.testing.assert_allclose(picture[21:59], expected, atol=0.6)


def test_png_of_16_bits_and_jpeg(tmp_path):
    Image.fromarray((RAMP * 16).astype(np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_allclose(
        read_image(tmp_path / "a.png", 64)[0], np.linspace(-1024, 1024, 64), atol=24
    )
    Image.fromarray((RAMP / 16).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(
        read_image(tmp_path / "a.jpg", 64)[0], np.linspace(-1024, 1024, 64), atol=60
    )


WORDS = (RAMP * 16).astype(np.uint16)
BYTES = (RAMP / 16).astype(np.uint8)


def png(values: np.ndarray) -> bytes:
    return imagecodecs.png_encode(values)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_a_grey_png_is_the_same_picture_in_any_number_of_channels(channels, deep):
    """Two and four have transparency. Pillow alone would keep 8 of 16 bits."""
    grey = WORDS if deep else BYTES
    values = grey if channels == 1 else np.repeat(grey[..., None], channels, 2)
    radiograph = read_radiograph(png(values), InputSettings(size=64))
    low, high = np.percentile(WORDS, (0.5, 99.5)) if deep else (0, 255)
    expected = np.clip((grey - low) / (high - low), 0, 1) * 2048 - 1024
    np.testing.assert_allclose(radiograph.picture, expected, atol=0.6)
    assert radiograph.reading.tags.bits == (16 if deep else 8)
    noted = {"colour picture": channels > 2, "transparency or gamma": channels in (2, 4)}
    noted["contrast from the values"] = deep
    assert radiograph.reading.remarks == tuple(remark for remark, true in noted.items() if true)


@pytest.mark.parametrize("values", [BYTES, WORDS])
def test_a_png_in_colour_is_set_aside(values):
    colours = np.repeat(values[..., None], 3, 2)
    colours[:20, :, 2] //= 2
    with pytest.raises(UnusableImage, match="a colour image"):
        read_radiograph(png(colours), InputSettings(size=64))


@pytest.mark.parametrize("bits", [8, 10, 12, 13, 14, 16])
def test_a_16_bit_png_of_fewer_used_bits_is_no_dark_picture(bits):
    values = (RAMP / 4095 * (2**bits - 1)).round().astype(np.uint16)
    for stored in (values, values // 2 + 3, values << (16 - bits)):
        radiograph = read_radiograph(png(stored), InputSettings(size=64))
        np.testing.assert_allclose(
            radiograph.picture[0], np.linspace(-1024, 1024, 64), atol=24 + 2048 / 2**bits
        )
        assert radiograph.reading.remarks == ("contrast from the values",)


def test_a_deep_colour_png_is_oriented_by_exif():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the left was stored
    file = io.BytesIO()
    Image.fromarray(np.repeat(np.rot90(BYTES)[..., None], 3, 2)).save(file, "PNG", exif=exif)
    chunk = file.getvalue()
    start = chunk.index(b"eXIf") - 4
    length = 12 + int.from_bytes(chunk[start : start + 4], "big")
    deep = png(np.repeat(np.rot90(WORDS)[..., None], 3, 2))
    turned = deep[:33] + chunk[start : start + length] + deep[33:]
    picture = read_radiograph(turned, InputSettings(size=64)).picture
    np.testing.assert_allclose(picture[0], np.linspace(-1024, 1024, 64), atol=24)


def test_an_overlay_is_reported_and_not_drawn():
    """A plane of its own, or in an unused bit of each cell as old files have it."""
    plane = np.zeros((64, 64), bool)
    plane[20:30, 20:30] = True
    window = full_window(RAMP)
    plain = read_radiograph(dicom(RAMP, **window), InputSettings(size=64))
    ds = pydicom.dcmread(io.BytesIO(dicom(RAMP, **window)))
    ds.add_new(0x60000010, "US", 64)
    ds.add_new(0x60000011, "US", 64)
    ds.add_new(0x60000050, "SS", [1, 1])
    ds.add_new(0x60000100, "US", 1)
    ds.add_new(0x60000102, "US", 0)
    ds.add_new(0x60003000, "OW", np.packbits(plane, bitorder="little").tobytes())
    ds.save_as(own := io.BytesIO())
    del ds[0x60003000]
    ds[0x60000100].value, ds[0x60000102].value = 16, 14
    cells = np.frombuffer(ds.PixelData, "<u2").reshape(64, 64) | plane.astype(np.uint16) << 14
    ds.PixelData = cells.tobytes()
    ds.save_as(within := io.BytesIO())
    for file in (own, within):
        radiograph = read_radiograph(file.getvalue(), InputSettings(size=64))
        assert radiograph.reading.remarks == ("overlay",)
        np.testing.assert_array_equal(radiograph.picture, plain.picture)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Modality": "CT"}, "modality CT: only radiographs"),
        ({"NumberOfFrames": 3}, "several frames"),
        ({"SamplesPerPixel": 3}, "colour image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
        ({"PixelData": b"\0\0"}, "pixels cannot be decoded"),
    ],
)
def test_what_is_no_radiograph_is_refused_with_the_reason(tmp_path, tags, words):
    with pytest.raises(UnusableImage, match=words):
        read_image(write_dicom(tmp_path / "a.dcm", RAMP, **tags), 32)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n broken"])
def test_broken_files_say_why(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UnusableImage, match=r"empty file|no readable|no DICOM, PNG or JPEG"):
        read_image(tmp_path / "x", 32)


def test_a_uniform_picture_is_no_radiograph(tmp_path):
    with pytest.raises(UnusableImage, match="all pixels are equal"):
        read_image(write_dicom(tmp_path / "a.dcm", np.full((32, 32), 5)), 32)


@pytest.mark.parametrize("name", sorted(phantoms.DEMO_HOSPITALS))
def test_every_phantom_hospital_shows_the_spine_brighter_than_the_lung(tmp_path, name):
    phantoms.write_hospital(tmp_path, phantoms.DEMO_HOSPITALS[name], 3, seed=5)
    for file in sorted((tmp_path / "dicom").iterdir()):
        picture = read_image(file, 96).astype(float)
        spine, lung = picture[40:60, 45:51].mean(), np.median(picture[36:48, 26:36])
        assert spine > lung + 200


def test_compressed_and_uncompressed_pixels_are_the_same_picture(tmp_path):
    plain = write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=4096)
    ds = pydicom.dcmread(plain)
    ds.compress(RLELossless)
    ds.save_as(tmp_path / "b.dcm")
    np.testing.assert_array_equal(read_image(plain, 48), read_image(tmp_path / "b.dcm", 48))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared radiographs are not here")
def test_real_radiographs_are_read_and_broken_files_are_set_aside():
    for file in sorted((SHARED / "radiographs").iterdir()):
        radiograph = read_radiograph(file.read_bytes(), InputSettings(size=128))
        assert radiograph.picture.astype(float).std() > 50, file.name
        # One file's window does not belong to its pixels, and its photometric interpretation lies.
        odd = "Rentgenprom" in file.name
        assert ("window not of these pixels" in radiograph.reading.remarks) == odd
        assert ("suspected inverted" in radiograph.reading.remarks) == odd
    for file in sorted((SHARED / "broken").iterdir()):
        with contextlib.suppress(UnusableImage):  # some are readable after all
            read_image(file, 64)
