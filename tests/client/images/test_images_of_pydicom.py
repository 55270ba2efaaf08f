"""pydicom's own test files, odd and broken ones among them: each is read or has its reason."""

from pathlib import Path

import pydicom.data
import pytest

from fedrad.client.images import InputSettings, UnusableImage, read_radiograph

FOLDER = Path(pydicom.data.__file__).parent / "test_files"  # those shipped: nothing is downloaded


def test_each_of_pydicoms_files_is_read_or_set_aside_with_a_reason():
    files = [f for f in sorted(FOLDER.rglob("*")) if f.is_file()]
    assert len(files) > 100
    usable, reasons = set(), []
    for file in files:
        try:
            read_radiograph(file.read_bytes(), InputSettings(size=64))
            usable.add(file.name)
        except UnusableImage as problem:
            reasons.append(str(problem))
    # Three CR images of its DICOMDIR, and a secondary capture that is deflated.
    assert all(reasons)
    assert usable == {"6154", "6247", "6278", "image_dfl.dcm"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ExplVR_BigEndNoMeta.dcm", "modality RTPLAN"),
        ("rtstruct.dcm", "modality RTSTRUCT"),
        ("SC_rgb_rle_2frame.dcm", "several frames"),
        ("SC_rgb_jpeg.dcm", "a colour image"),
        ("zipMR.gz", "no DICOM, PNG or JPEG file"),
        ("priv_SQ.dcm", "holds no pixel data"),
    ],
)
def test_the_reason_is_true(name, reason):
    with pytest.raises(UnusableImage, match=reason):
        read_radiograph((FOLDER / name).read_bytes(), InputSettings(size=64))
