"""Each file is decoded and resized once, and what was stored stays intact."""

import shutil

import numpy as np
import pytest
from support.pictures import SMALL, load, write_pictures

from fedrad.client.images import ImageStore, InputSettings
from fedrad.client.problems import SiteProblem


def test_a_file_is_decoded_once_whatever_it_is_called(tmp_path):
    files = write_pictures(tmp_path / "a", 3)
    store = ImageStore(tmp_path / "store", workers=1)
    first, _, decoded = load(store, files)
    assert decoded == 3
    copy = shutil.copy(files[0], tmp_path / "copy.png")
    renamed = files[1].rename(tmp_path / "renamed.png")
    again, _, decoded = load(store, [copy, renamed, files[2]])
    assert decoded == 0
    np.testing.assert_array_equal(first, again)


def test_a_changed_file_or_setting_is_decoded_anew(tmp_path):
    files = write_pictures(tmp_path / "a", 2)
    store = ImageStore(tmp_path / "store", workers=1)
    before, _, _ = load(store, files)
    write_pictures(tmp_path / "a", 1, seed=9)
    after, _, decoded = load(store, files)
    assert decoded == 1
    assert (before[0] != after[0]).any()
    np.testing.assert_array_equal(before[1], after[1])
    assert load(store, files, InputSettings(size=32, fit="crop"))[2] == 2


def test_broken_and_missing_files_are_set_aside(tmp_path):
    files = write_pictures(tmp_path / "a", 2)
    files[0].write_bytes(files[0].read_bytes()[:90])
    files.append(tmp_path / "gone.png")
    pictures, readings, _ = load(ImageStore(tmp_path / "store", workers=1), files)
    assert [r.unusable is None for r in readings] == [False, True, False]
    assert (pictures[[0, 2]] == -1024).all()


def test_a_folder_deleted_and_made_again_is_a_new_store(tmp_path):
    files = write_pictures(tmp_path / "a", 1)
    store = ImageStore(tmp_path / "store", workers=1)
    load(store, files)
    shutil.rmtree(tmp_path / "store")
    assert load(store, files)[2] == 1
    assert load(store, files)[2] == 0


def test_a_limit_too_small_is_refused_with_numbers(tmp_path):
    files = write_pictures(tmp_path / "a", 3)
    with pytest.raises(SiteProblem, match=r"too small for 3 images of 32 px.*images_gib"):
        ImageStore(tmp_path / "store", limit_gib=1e-5).load(files, SMALL)
