"""A file is found under its name, or the reason says what is there instead."""

import os
import unicodedata

import pytest

from fedrad.client.cohort.file_names import SiteFiles
from fedrad.client.cohort.instance_uids import files_by_uid
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site

NAME = "images/Müller 0.png"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "site/images").mkdir(parents=True)
    return tmp_path / "site"


def put(folder, name: bytes) -> None:
    with open(os.fsencode(folder) + b"/" + name, "wb"):
        pass


@pytest.mark.parametrize(
    ("on_disk", "differs"),
    [
        (unicodedata.normalize("NFD", NAME).encode(), "in another Unicode form"),
        (NAME.encode("latin-1"), "in another encoding"),
        (NAME.encode("cp850"), "in another encoding"),
        (b"images/M\xc3\x9cLLER 0.PNG", "in another case"),
    ],
)
def test_the_one_file_that_fits_is_used_and_what_differs_is_said(folder, on_disk, differs):
    put(folder, on_disk)
    found = SiteFiles(folder).find(NAME, "line 2")
    assert found.name == NAME
    assert os.fsencode(found.file) == os.fsencode(folder.resolve()) + b"/" + on_disk
    assert differs in found.spelled
    found.spelled.encode()  # can be written anywhere


def test_of_several_files_of_nearly_the_name_none_is_used(folder):
    put(folder, b"images/a.PNG")
    put(folder, b"images/A.png")
    found = SiteFiles(folder).find("images/a.png", "line 2")
    assert found.file is None
    assert found.why.startswith("no such file; 2 files have nearly this name: images/A.png")


@pytest.mark.parametrize("named", ["images/0005", "images/0005.dcm", "images/0005.jpeg"])
def test_a_file_of_another_extension_is_proposed_and_not_used(folder, named):
    put(folder, b"images/0005.png")
    found = SiteFiles(folder).find(named, "line 2")
    assert found.file is None
    assert found.why == "no such file; 0005.png is there: write its whole name"


def test_the_exact_name_is_preferred(folder):
    put(folder, b"images/a.PNG")
    put(folder, b"images/a.png")
    assert SiteFiles(folder).find("images/a.png", "line 2").file.name == "a.png"


def test_a_link_that_the_site_put_into_its_folder_is_followed(folder, tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/1.png").touch()
    (folder / "disk").symlink_to(tmp_path / "archive")
    assert SiteFiles(folder).find("disk/1.png", "line 2").file == folder.resolve() / "disk/1.png"
    assert SiteFiles(folder).find(f"{folder}/disk/1.png", "line 2").file is not None
    (folder / "site.toml").write_text('name = "x"')
    site = open_site(folder, state=tmp_path / "state")
    (folder / "disk/round").symlink_to(folder)  # no endless search
    assert folder.resolve() / "disk/1.png" in files_by_uid(site, lambda f: ["1.2"] * len(f))["1.2"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda f: (f / "images/x").symlink_to("/gone/disk"), "is a link to /gone/disk, which is"),
        (lambda f: (f / "images/x").symlink_to("x"), "cannot be reached"),
        (lambda f: (f / "images/x").mkdir(), "is a folder, not a file"),
        (lambda f: os.mkfifo(f / "images/x"), "is a device, not a file"),
        (lambda f: None, "no such file"),
    ],
)
def test_why_a_file_cannot_be_used(folder, make, why):
    make(folder)
    found = SiteFiles(folder).find("images/x", "line 2")
    assert found.file is None
    assert why in found.why


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000, "\ud800", "a\0b"])
def test_a_name_that_no_file_can_have_is_no_traceback(folder, name):
    assert SiteFiles(folder).find(name, "line 2").file is None


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "images/../../x", "..\\x.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused(folder, name):
    with pytest.raises(SiteProblem, match=r"line 2: .* lies outside the site's folder"):
        SiteFiles(folder).find(name, "line 2")
