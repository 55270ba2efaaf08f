"""Bits and sign are those that the pixel values have, whatever the header states."""

import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from pydicom import uid
from support.chest import CHEST, SIDE, chest, difference, read
from support.dicom import dicom, full_window

from fedrad.client.images import UnusableImage


def stored(bits: int, grey: np.ndarray = CHEST) -> np.ndarray:
    return (grey * (2**bits - 1)).round().astype(np.int64)


def with_header(data: bytes, **elements: int) -> bytes:
    """A file whose header states other bits than its pixels have."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(file := io.BytesIO(), enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize(
    ("bits", "said"), [(16, 8), (16, 10), (16, 12), (16, 15), (14, 12), (14, 10), (12, 8), (12, 11)]
)
def test_bits_that_continue_the_values_are_kept(bits, said, syntax):
    data = dicom(stored(bits), bits=16, syntax=syntax, **full_window(np.array([0, 2**bits - 1])))
    radiograph = read(with_header(data, BitsStored=said, HighBit=said - 1))
    assert radiograph.reading.remarks == ("header states too few bits",)
    assert difference(radiograph) < 0.01


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.03])
@pytest.mark.parametrize("said", [8, 10, 12, 14])
def test_bits_are_missed_in_smooth_and_in_noisy_images(said, noise):
    rng = np.random.default_rng(1)
    grey = np.clip(chest(128, 2) + rng.normal(0, 1, (128, 128)) * noise, 0, 1)
    data = with_header(dicom(stored(16, grey), bits=16), BitsStored=said, HighBit=said - 1)
    assert "header states too few bits" in read(data).reading.remarks


@pytest.mark.parametrize("position", [12, 13, 15])
@pytest.mark.parametrize("named", [True, False])
def test_an_overlay_in_the_upper_bits_is_cut_off(position, named):
    """Letters, a frame and a filled area, in a group 60xx of the header or not."""
    plane = np.zeros((SIDE, SIDE), np.int64)
    plane[5:15, 10:60:3] = plane[30:60, 20:70] = plane[:, :2] = 1
    ds = pydicom.dcmread(io.BytesIO(dicom(stored(12) | plane << position, bits=16)))
    ds.BitsStored, ds.HighBit = 12, 11
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    if named:
        ds.add_new(0x60000010, "US", SIDE)
        ds.add_new(0x60000011, "US", SIDE)
        ds.add_new(0x60000100, "US", 16)
        ds.add_new(0x60000102, "US", position)
    ds.save_as(file := io.BytesIO(), enforce_file_format=True)
    radiograph = read(file.getvalue())
    assert radiograph.reading.remarks == (("overlay",) if named else ())
    assert difference(radiograph) < 0.01


def test_values_in_the_lowest_bits_are_found_although_high_bit_is_wrong():
    data = dicom(stored(12), **full_window(np.array([0, 4095])))
    for high in (15, 13, 7):
        radiograph = read(with_header(data, HighBit=high))
        assert radiograph.reading.remarks == ("header states other bits",)
        assert difference(radiograph) < 0.01


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values_that_are_said_to_be_unsigned_are_not_torn_apart(bits):
    values = stored(bits) - 2 ** (bits - 1)
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1])
    data = dicom(values, bits=bits, signed=True, **full_window(ends))
    radiograph = read(with_header(data, PixelRepresentation=0))
    assert radiograph.reading.remarks == ("header states other sign",)
    assert difference(radiograph) < 0.01


def test_unsigned_values_that_are_said_to_be_signed_are_not_torn_apart():
    radiograph = read(with_header(dicom(stored(16), bits=16), PixelRepresentation=1))
    assert radiograph.reading.remarks == ("header states other sign", "no window")
    assert difference(radiograph) < 0.08


def _j2k(values, bits):
    return encode_array(values, bits_stored=bits, photometric_interpretation=2)


STREAMS = {
    "JPEG lossless": (
        uid.JPEGLosslessSV1,
        lambda v, b: imagecodecs.ljpeg_encode(v, bitspersample=b),
    ),
    "JPEG-LS": (uid.JPEGLSLossless, lambda v, b: imagecodecs.jpegls_encode(v)),
    "JPEG 2000": (uid.JPEG2000Lossless, _j2k),
    "JPEG extended": (
        uid.JPEGExtended12Bit,
        lambda v, b: imagecodecs.jpeg_encode(v, level=100, bitspersample=b),
    ),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(("said", "noted"), [(8, True), (10, True), (12, False), (16, False)])
def test_a_stream_has_the_bits_that_it_states_itself(name, said, noted):
    syntax, encode = STREAMS[name]
    stream = bytes(encode(stored(12).astype(np.uint16), 12))
    window = full_window(np.array([0, 4095]))
    data = dicom(stored(12), bits=said, allocated=16, syntax=syntax, stream=stream, **window)
    radiograph = read(data)
    assert radiograph.reading.remarks == (("header states too few bits",) if noted else ())
    assert difference(radiograph) < 0.01


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [12, 16])
def test_pixels_with_swapped_bytes_are_set_aside_and_not_shown_as_noise(bits, signed):
    stored = (CHEST * (2**bits - 1)).round().astype(np.int64) - (2 ** (bits - 1) if signed else 0)
    sound = dicom(stored, bits=bits, signed=signed, **full_window(stored))
    assert read(sound).reading.remarks == ()
    ds = pydicom.dcmread(io.BytesIO(sound))
    ds.PixelData = np.frombuffer(ds.PixelData, "u2").byteswap().tobytes()
    ds.save_as(file := io.BytesIO(), enforce_file_format=True)
    with pytest.raises(UnusableImage, match="wrong order"):
        read(file.getvalue())


def test_a_png_with_swapped_bytes_is_set_aside():
    values = (CHEST * 4095).round().astype(np.uint16)
    for stored in (values, values * 16):
        assert read(imagecodecs.png_encode(stored)).reading.unusable is None
        with pytest.raises(UnusableImage, match="wrong order"):
            read(imagecodecs.png_encode(stored.byteswap()))
