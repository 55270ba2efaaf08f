"""The awkward files that were collected of hospitals: each is shown as drawn, or set aside."""

import subprocess
import sys

import numpy as np
import pytest
from support.paths import SHARED

from fedrad.client.images import InputSettings, UnusableImage, read_radiograph

CASES = SHARED / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")

NAMED = {
    "01-png16-range": "contrast from the values",
    "02-window-of-other-pixels": "window not of these pixels",
    "03-decimal-commas": None,
    "04-bits-stored-too-few": "header states too few bits",
    "16-lower-case-codes": None,
}
"""Case -> the remark that each of its files but the true one has."""


def picture(file):
    radiograph = read_radiograph(file.read_bytes(), InputSettings(size=192))
    return radiograph.picture.astype(float) / 2048, radiograph.reading.remarks


def made(case, folder):
    """The files of a case, the true one first."""
    subprocess.run([sys.executable, CASES / case / "make.py", folder], check=True)
    return sorted(folder.iterdir(), key=lambda file: (file.stem != "truth", file.name))


@pytest.mark.parametrize("case", NAMED)
def test_each_file_is_shown_as_the_true_one(case, tmp_path):
    truth, *files = made(case, tmp_path)
    true, remarks = picture(truth)
    assert remarks == ()
    for file in files:
        shown, remarks = picture(file)
        if file.stem == "spacing":  # twice as wide as high
            assert remarks == ("non-square pixels",)
            assert (shown[:47] == -0.5).all()
            continue
        assert np.abs(shown - true).mean() < 0.03, file.name
        assert NAMED[case] is None or NAMED[case] in remarks


def test_a_cut_stream_of_12_bits_is_set_aside(tmp_path):
    _, *files = made("05-cut-jpeg12", tmp_path)
    for file in files:
        with pytest.raises(UnusableImage, match="pixels cannot be decoded"):
            picture(file)
