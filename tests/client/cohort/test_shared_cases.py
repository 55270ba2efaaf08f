"""The shared cases about tables and files: each is read right, or refused with the line."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from support.paths import SHARED

from fedrad.client.cohort import Pseudonyms, index_rows, read_table
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site

CASES = SHARED / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")


@cache
def made(case: str) -> Path:
    folder = Path(mkdtemp(prefix="case-"))
    make = next(CASES.glob(f"{case}-*")) / "make.py"
    subprocess.run([sys.executable, str(make), str(folder)], check=True)
    return folder


def read(case: str, name: str, setting: str = ""):
    folder = made(case) / name
    (folder / "site.toml").write_text(f'name = "x"\n{setting}\n')
    site = open_site(folder, state=folder / "state")
    return site, read_table(site, None, Pseudonyms.temporary())


@pytest.mark.parametrize(
    ("case", "name", "words"),
    [
        ("06", "one", "line 7: a quotation mark is opened and not closed"),
        ("06", "two", "line 7: a quotation mark is opened and not closed"),
        ("07", "point", r"line 2: the patient number '1\.00200E\+12' is in scientific notation"),
        ("07", "comma", r"line 2: the patient number '1,00200E\+12' is in scientific notation"),
        ("08", "zeros", r"12 patient numbers .* '00000100' \(line 2\) and '100' \(line 3\)"),
        ("08", "float", r"'100' \(line 2\) and '100\.0' \(line 3\)"),
        ("08", "case", r"'P000' \(line 2\) and 'p000' \(line 3\)"),
        ("08", "apostrophe", r"\"'100\" \(line 2\) and '100' \(line 3\)"),
        ("17", "yes", r"label: line 2: 'no' \(all values: 'no' 4, 'yes' 4\)"),
        ("17", "true", "label: line 2: 'FALSE'"),
        ("17", "uncertain", r"label: line 5: '-1'"),
        ("17", "nan", "label: line 5: 'nan'"),
    ],
)
def test_refused_with_the_line(case, name, words):
    with pytest.raises(SiteProblem, match=words):
        read(case, name)


@pytest.mark.parametrize(
    ("case", "name", "rows", "patients"),
    [
        ("08", "space", 24, 12),
        ("08", "zero-width", 24, 12),
        ("10", "mac", 8, 8),
        ("11", "nfd", 4, 4),
        ("11", "latin1", 4, 4),
        ("11", "case", 4, 4),
        ("15", "site", 4, 4),
        ("17", "typo", 8, 8),
    ],
)
def test_all_rows_files_and_patients_are_read(case, name, rows, patients):
    table = read(case, name)[1]
    assert (len(table.rows), table.patients) == (rows, patients)
    assert all(row.file is not None for row in table.rows)
    assert bool(table.respelled) == (case == "11")
    assert [column.name for column in table.nearly_outcomes] == ["bpd"] * (case == "17")


@pytest.mark.parametrize("name", ["zeros", "float", "case", "apostrophe"])
def test_two_spellings_are_one_patient_when_the_site_says_so(name):
    assert read("08", name, 'patient_numbers = "digits"')[1].patients == 12


@pytest.mark.parametrize("name", ["iso", "t", "german"])
def test_the_morning_image_stands_for_the_patient(name):
    site, table = read("09", name)
    rows, _ = index_rows(site, table.rows, "earliest")
    assert sorted(row.name for row in rows) == [f"images/i{k:02d}.png" for k in range(1, 24, 2)]


@pytest.mark.parametrize("name", ["no-time", "offset"])
def test_patients_whose_order_is_unknown_are_left_out_by_setting(name):
    site, table = read("09", name, 'unordered = "left out"')
    rows, left_out = index_rows(site, table.rows, "earliest")
    assert not rows
    assert len(left_out) == 24
