"""The same radiograph is decoded from every encoding."""

import imagecodecs
import numpy as np
import openjpeg.utils
import pytest
from pydicom import uid
from support.dicom import RAMP, dicom, full_window, stored_ramp

from fedrad.client.images import InputSettings, read_radiograph

EXACT = 1.5  # float16 near 1024 has steps of 0.5 to 1
TRUE = RAMP * 2048 - 1024


def picture(data: bytes) -> np.ndarray:
    return read_radiograph(data, InputSettings(size=64)).picture.astype(np.float64)


def bound(bits: int) -> float:
    """Half a grey value of the stored bits, and what float16 rounds."""
    return 1024 / (2**bits - 1) + EXACT


UNCOMPRESSED = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("syntax", UNCOMPRESSED)
def test_every_depth_sign_and_polarity_in_every_uncompressed_syntax(
    syntax, bits, signed, photometric
):
    stored = stored_ramp(bits, signed)
    tags = full_window(stored, 0.5, -100)
    data = dicom(
        stored,
        bits=bits,
        signed=signed,
        syntax=syntax,
        RescaleSlope=0.5,
        RescaleIntercept=-100,
        PhotometricInterpretation=photometric,
        **tags,
    )
    sign = -1 if photometric == "MONOCHROME1" else 1
    np.testing.assert_allclose(picture(data), sign * TRUE, atol=bound(bits) + 2048 / 2**bits)


@pytest.mark.parametrize("syntax", UNCOMPRESSED)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "high"), [(8, 7), (10, 9), (10, 13), (12, 11), (12, 15)])
def test_rubbish_in_the_unused_bits_of_a_cell_is_not_seen(syntax, signed, bits, high):
    if syntax == uid.RLELossless and bits == 8:
        pytest.skip("pydicom's encoder narrows 8 stored of 16 allocated bits, wrongly")
    stored = stored_ramp(bits, signed)
    data = dicom(
        stored,
        bits=bits,
        signed=signed,
        allocated=16,
        high_bit=high,
        rubbish=True,
        syntax=syntax,
        **full_window(stored),
    )
    np.testing.assert_allclose(picture(data), TRUE, atol=bound(bits))


def _j2k(a, bits):
    return openjpeg.utils.encode_array(a, bits_stored=bits, photometric_interpretation=2)


def _as_is(encode, **options):
    return lambda a, bits: encode(a, **options)


ENCODED = {
    "JPEG baseline": (uid.JPEGBaseline8Bit, _as_is(imagecodecs.jpeg8_encode, level=100), [8]),
    "JPEG extended": (
        uid.JPEGExtended12Bit,
        lambda a, bits: imagecodecs.jpeg8_encode(a, level=100, bitspersample=bits),
        [8, 12],
    ),
    "JPEG lossless": (
        uid.JPEGLosslessSV1,
        lambda a, bits: imagecodecs.ljpeg_encode(a, bitspersample=bits),
        [8, 10, 12, 14, 16],
    ),
    "JPEG-LS": (uid.JPEGLSLossless, _as_is(imagecodecs.jpegls_encode), [8, 10, 12, 14, 16]),
    "JPEG-LS near": (
        uid.JPEGLSNearLossless,
        _as_is(imagecodecs.jpegls_encode, level=2),
        [8, 12, 16],
    ),
    "JPEG 2000": (uid.JPEG2000Lossless, _j2k, [8, 10, 12, 14, 15, 16]),
    "HTJ2K": (uid.HTJ2KLossless, _as_is(imagecodecs.htj2k_encode, reversible=True), [8, 16]),
    "JPEG XL": (
        "1.2.840.10008.1.2.4.110",
        lambda a, bits: imagecodecs.jpegxl_encode(a, lossless=True, bitspersample=bits),
        [8, 10, 12, 16],
    ),
}


@pytest.mark.parametrize(
    ("name", "bits"), [(name, bits) for name, (_, _, depths) in ENCODED.items() for bits in depths]
)
def test_every_codec_gives_the_stored_values_back(name, bits):
    syntax, encode, _ = ENCODED[name]
    stored = stored_ramp(bits)
    stream = encode(stored.astype(np.uint8 if bits == 8 else np.uint16), bits)
    data = dicom(stored, bits=bits, syntax=syntax, stream=bytes(stream), **full_window(stored))
    lossy = 3 * 2048 / 255 if name in ("JPEG baseline", "JPEG extended", "JPEG-LS near") else 0
    np.testing.assert_allclose(picture(data), TRUE, atol=bound(bits) + lossy)


@pytest.mark.parametrize("half", ["all", "negative"])
@pytest.mark.parametrize(
    ("name", "bits"),
    [(name, bits) for name, (_, _, depths) in ENCODED.items() for bits in depths],
)
def test_signed_values_come_back_from_codecs_that_know_no_sign(name, bits, half):
    """The stream holds the stored bits. Lossy codecs blur where they wrap from -1 to 0, so these
    are asked about negative values only."""
    syntax, encode, _ = ENCODED[name]
    lossy = 3 * 2048 / 255 if name in ("JPEG baseline", "JPEG extended", "JPEG-LS near") else 0
    if lossy and half == "all":
        pytest.skip("wraps within the image")
    stored = stored_ramp(bits, signed=True)
    if half == "negative":
        stored = (stored - 2 ** (bits - 1)) // 2 + (8 if lossy else 0)
    cells = (stored & (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    data = dicom(
        stored,
        bits=bits,
        signed=True,
        syntax=syntax,
        stream=bytes(encode(cells, bits)),
        **full_window(stored),
    )
    np.testing.assert_allclose(picture(data), TRUE, atol=2 * bound(bits) + 2 * lossy)


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_jpeg_2000(bits):
    stored = stored_ramp(bits, signed=True)
    stream = _j2k(stored.astype(np.int16), bits)
    data = dicom(
        stored,
        bits=bits,
        signed=True,
        syntax=uid.JPEG2000Lossless,
        stream=bytes(stream),
        **full_window(stored),
    )
    np.testing.assert_allclose(picture(data), TRUE, atol=bound(bits))
