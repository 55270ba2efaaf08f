"""A stream that was cut or damaged is set aside, whatever its decoder makes of it."""

import io
import sys

import imagecodecs
import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from PIL import Image, ImageFile
from pydicom import uid
from pydicom.encaps import generate_frames
from support.chest import CHEST, SIDE, difference, read, with_chunk, with_frame
from support.dicom import dicom, full_window

from fedrad.client.images import UnusableImage
from fedrad.client.images.damage import decoder_messages, suspected_cut
from fedrad.client.images.reading import whole_reason

EIGHT = (CHEST * 255).round().astype(np.uint8)
TWELVE = (CHEST * 4095).round().astype(np.uint16)


def _rle():
    data = dicom(TWELVE, syntax=uid.RLELossless)
    return next(generate_frames(pydicom.dcmread(io.BytesIO(data)).PixelData, number_of_frames=1))


STREAMS = {
    "JPEG baseline": (uid.JPEGBaseline8Bit, 8, lambda: imagecodecs.jpeg8_encode(EIGHT, level=95)),
    "JPEG extended, 8 bits": (
        uid.JPEGExtended12Bit,
        8,
        lambda: imagecodecs.jpeg8_encode(EIGHT, level=95),
    ),
    "JPEG extended, 12 bits": (
        uid.JPEGExtended12Bit,
        12,
        lambda: imagecodecs.jpeg_encode(TWELVE, level=95, bitspersample=12),
    ),
    "JPEG lossless": (
        uid.JPEGLosslessSV1,
        12,
        lambda: imagecodecs.ljpeg_encode(TWELVE, bitspersample=12),
    ),
    "JPEG-LS": (uid.JPEGLSLossless, 12, lambda: imagecodecs.jpegls_encode(TWELVE)),
    "JPEG-LS near": (
        uid.JPEGLSNearLossless,
        12,
        lambda: imagecodecs.jpegls_encode(TWELVE, level=2),
    ),
    "JPEG 2000": (
        uid.JPEG2000Lossless,
        12,
        lambda: encode_array(TWELVE, bits_stored=12, photometric_interpretation=2),
    ),
    "HTJ2K": (
        uid.HTJ2KLossless,
        12,
        lambda: imagecodecs.htj2k_encode(TWELVE, reversible=True),
    ),
    "JPEG XL": (
        "1.2.840.10008.1.2.4.110",
        12,
        lambda: imagecodecs.jpegxl_encode(TWELVE, lossless=True, bitspersample=12),
    ),
    "RLE": (uid.RLELossless, 12, _rle),
}


def file_of(name: str, change=lambda stream: stream) -> bytes:
    syntax, bits, encode = STREAMS[name]
    stream = change(bytes(encode()))
    stored = EIGHT if bits == 8 else TWELVE
    window = full_window(np.array([0, 2**bits - 1]))
    return dicom(stored, bits=bits, syntax=syntax, stream=stream, **window)


@pytest.mark.parametrize("name", STREAMS)
def test_a_whole_stream_is_read_and_so_is_padding_after_it(name):
    # In RLE noughts are pixels: no more than a segment's even length needs.
    for padding in (b"", b"\0\0") if name == "RLE" else (b"", b"\0\0", b"\0" * 33):
        radiograph = read(file_of(name, lambda stream, padding=padding: stream + padding))
        assert radiograph.reading.remarks == ()
        assert difference(radiograph) < 0.02


@pytest.mark.parametrize("share", [98, 90, 60, 30])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_was_cut_is_set_aside(name, share):
    with pytest.raises(UnusableImage, match="pixels cannot be decoded"):
        read(file_of(name, lambda stream: stream[: len(stream) * share // 100]))


@pytest.mark.parametrize("name", [name for name in STREAMS if name not in ("RLE", "JPEG XL")])
def test_a_stream_without_its_end_marker_is_set_aside(name):
    with pytest.raises(UnusableImage, match="pixels cannot be decoded"):
        read(file_of(name, lambda stream: stream[:-2]))


@pytest.mark.parametrize("name", [name for name in STREAMS if name not in ("RLE", "JPEG XL")])
@pytest.mark.parametrize("share", [90, 60])
def test_a_stream_that_lacks_its_last_part_but_has_its_end_marker_is_set_aside_or_named(
    name, share
):
    data = file_of(name, lambda stream: stream[: len(stream) * share // 100] + stream[-2:])
    try:
        assert read(data).reading.remarks == ("suspected cut",)
    except UnusableImage as problem:
        assert "pixels cannot be decoded" in str(problem)  # noqa: PT017 - either is right


@pytest.mark.parametrize("name", [name for name in STREAMS if name.startswith("JPEG ext")])
@pytest.mark.parametrize("share", [20, 30, 45, 60, 75, 90])
def test_an_extended_jpeg_that_lost_its_middle_is_set_aside(name, share):
    """The decoder of imagecodecs reads on without a word, and shows shifted and grey parts."""

    def without_a_part(stream: bytes) -> bytes:
        at = len(stream) * share // 100
        return stream[:at] + stream[at + 128 :]

    with pytest.raises(UnusableImage, match="pixels cannot be decoded: Corrupt JPEG data"):
        read(file_of(name, without_a_part))


@pytest.mark.parametrize("name", ["JPEG baseline", "JPEG lossless", "RLE", "JPEG 2000"])
def test_a_stream_in_several_fragments_is_whole(name):
    stream = bytes(STREAMS[name][2]())
    radiograph = read(with_frame(file_of(name), stream + b"\0" * (len(stream) % 2), fragments=4))
    assert difference(radiograph) < 0.02


def test_what_a_decoder_writes_to_standard_error_counts(capfd):
    middle = bytes(imagecodecs.ljpeg_encode(TWELVE, bitspersample=12))
    broken = middle[: len(middle) // 2] + middle[-2:]
    with pytest.raises(UnusableImage, match="Corrupt JPEG data"):
        read(file_of("JPEG lossless", lambda _: broken))
    print("still there", file=sys.stderr)
    assert capfd.readouterr().err == "still there\n"
    with decoder_messages() as messages:
        pass
    assert messages == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [98, 90, 60, 30])
@pytest.mark.parametrize("forgiving", [False, True])
def test_a_picture_file_that_was_cut_is_set_aside(kind, share, forgiving, monkeypatch):
    """Also where another library has told Pillow to fill up what is missing."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", forgiving)
    Image.fromarray(EIGHT).save(file := io.BytesIO(), kind)
    data = file.getvalue()
    assert difference(read(data)) < 0.02
    with pytest.raises(UnusableImage, match="cut off"):
        read(data[: len(data) * share // 100])


def test_a_jpeg_file_that_lacks_its_last_part_is_set_aside():
    for mode in ("L", "RGB"):
        Image.fromarray(EIGHT).convert(mode).save(file := io.BytesIO(), "JPEG", quality=95)
        data = file.getvalue()
        assert difference(read(data)) < 0.02
        with pytest.raises(UnusableImage, match="Corrupt JPEG data"):
            read(data[: len(data) // 2] + data[-2:])


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}, {}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_sound_jpeg_files_of_every_kind_are_read(mode, options):
    picture = Image.fromarray(EIGHT[:93, :95]).convert(mode)
    for quality, subsampling in ((60, 2), (95, 0)):
        picture.save(
            file := io.BytesIO(), "JPEG", quality=quality, subsampling=subsampling, **options
        )
        read(file.getvalue())


def test_every_checksum_of_a_png_counts():
    Image.fromarray(EIGHT).save(file := io.BytesIO(), "PNG")
    data = with_chunk(file.getvalue(), b"tEXt", b"Comment\0of an archive")
    assert difference(read(data + b"rubbish after the end")) < 0.01
    for place in (20, data.index(b"Comment"), data.index(b"IDAT") + 400):
        damaged = bytearray(data)
        damaged[place] ^= 4
        with pytest.raises(UnusableImage, match=r"checksum"):
            read(bytes(damaged))


@pytest.mark.parametrize("level", [0, 4095])
@pytest.mark.parametrize("rows", [5, 30, 60])
def test_whole_rows_without_pixels_are_suspected(level, rows):
    """Blocks of 4 KiB hold whole rows of 2048 pixels, so a copy that stopped ends with a row."""
    cut = TWELVE.copy()
    cut[-rows:] = level
    assert suspected_cut(cut)


WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def test_a_lower_part_that_was_filled_in_is_named():
    for level in (300, 2000, 3500):
        filled = TWELVE.copy()
        filled[70:] = level
        assert read(dicom(filled, **WINDOW)).reading.remarks == ("suspected cut",)
    repeated = TWELVE.copy()
    repeated[60:] = repeated[60]
    assert read(dicom(repeated, **WINDOW)).reading.remarks == ("suspected cut",)
    zeros = TWELVE.copy().ravel()
    zeros[61 * SIDE + 40 :] = 0
    assert read(dicom(zeros.reshape(SIDE, SIDE), **WINDOW)).reading.remarks == ("suspected cut",)


@pytest.mark.parametrize("level", [0, 20, 4095])
@pytest.mark.parametrize("rows", [1, 5, 30])
def test_a_black_or_white_margin_below_is_no_damage(level, rows):
    framed = TWELVE.copy()
    soft = [0.02, 0.1, 0.3, 0.6, 0.9]
    for at, share in enumerate(soft):  # the edge of a collimator
        row = framed[SIDE - rows - 1 - at]
        framed[SIDE - rows - 1 - at] = level + share * (row.astype(float) - level)
    framed[-rows:] = level
    assert not suspected_cut(framed)
    framed[:rows], framed[:, :rows], framed[:, -rows:] = level, level, level
    assert not suspected_cut(framed)


def test_pixels_that_are_left_over_contradict_the_header_and_noughts_do_not():
    ds = pydicom.dcmread(io.BytesIO(dicom(TWELVE, **WINDOW)))
    pixels = ds.PixelData
    for changed in ({"Rows": SIDE // 2}, {"Columns": SIDE // 2}, {"BitsAllocated": 8}):
        for keyword, value in changed.items():
            before, ds[keyword].value = ds[keyword].value, value
            if keyword == "BitsAllocated":
                ds.BitsStored, ds.HighBit = 8, 7
            ds.save_as(file := io.BytesIO())
            with pytest.raises(UnusableImage, match="fewer pixels"):
                read(file.getvalue())
            ds[keyword].value = before
    ds.BitsStored, ds.HighBit = 12, 11
    ds.PixelData = pixels + b"\0" * 5000
    ds.save_as(file := io.BytesIO())
    assert read(file.getvalue()).reading.remarks == ()


def test_the_whole_reason_of_a_decoder_is_kept_without_paths():
    text = "first line:\n  /usr/lib/python3/site-packages/a.py says\n" + "why " * 300
    reason = whole_reason(text)
    assert reason.startswith("first line: (path) says why why")
    assert len(reason) == 500
