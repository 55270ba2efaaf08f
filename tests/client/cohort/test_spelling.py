"""What is a patient number, and which spellings can be one number."""

import pytest
from support.hospital import write_site

from fedrad.client.cohort import Pseudonyms, read_table
from fedrad.client.cohort.spelling import alike_numbers, bare, like_dates, patient_number, rounded
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site


@pytest.mark.parametrize(
    "number", ["P001", "12345", "A-1/23", "10E5", "Müller-3", "0", "1.2.840.1", "K*7", "(3)"]
)
def test_a_number_is_kept_as_it_is(number):
    assert patient_number(number) == number


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("P\u200b001", "P001"),
        ("\ufeffP001", "P001"),
        ("P\u00a0001", "P 001"),
        ("P  001", "P 001"),
        ("Mu\u0308ller", "Müller"),
    ],
)
def test_what_looks_the_same_is_the_same_number(cell, number):
    assert patient_number(cell) == number


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("1.00200E+12", "scientific notation"),
        ("1,00200e+12", "scientific notation"),
        ("1E+12", "scientific notation"),
        ("1.0E12", "scientific notation"),
        ("'1.00200E+12", "scientific notation"),
        ("nan", "names no patient"),
        ("N/A", "names no patient"),
        ("unknown", "names no patient"),
        ("-", "names no patient"),
        ("?", "names no patient"),
        ("\u200b", "is empty"),
        ("#REF!", "an error of the spreadsheet"),
        ("########", "an error of the spreadsheet"),
        ('="00123"', "is no part of a patient number"),
        ('"P1"', "is no part of a patient number"),
        ("P?1", "is no part of a patient number"),
        ("P\ufffd1", "is no part of a patient number"),
        ("P\x1a1", "is no part of a patient number"),
        ("1,002", "is no part of a patient number"),
    ],
)
def test_what_is_no_number_is_refused_with_the_reason(cell, why):
    with pytest.raises(ValueError, match=why):
        patient_number(cell)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("00000100", "100"),
        ("100", "100.0"),
        ("P001", "p001"),
        ("P001", "P-1"),
        ("'100", "100"),
        ("P 001", "P001"),
        ("1 002", "1002"),
        ("A-02/23", "A-2/23"),
        ("\uff11\uff12", "12"),
    ],
)
def test_spellings_of_one_number(one, other):
    assert bare(one) == bare(other)
    assert alike_numbers([one, other, "999", one]) == [sorted((one, other))]


@pytest.mark.parametrize(
    ("one", "other"), [("1-23", "12-3"), ("100", "1000"), ("P1", "Q1"), ("100.5", "1005")]
)
def test_two_numbers_are_no_spellings_of_one(one, other):
    assert not alike_numbers([one, other])


def test_numbers_that_a_spreadsheet_rounded_or_made_dates_of():
    assert rounded(["12345678901234500", "12345678901234600", "7"]) == [
        "12345678901234500",
        "12345678901234600",
    ]
    assert rounded(["12345678901234501", "12345678901234600"]) == []
    assert like_dates(["3-4", "04-Mar", "Mrz 05", "17"]) == ["04-Mar", "Mrz 05"]
    assert like_dates(["2024-01-05", "2024-01-06"]) == []


@pytest.fixture
def site(tmp_path):
    folder = write_site(tmp_path / "x", 4)
    (folder / "cohort.csv").write_text(
        "file,patient_id,label\nimages/0000.png,0012,1\nimages/0001.png,12,1\n"
        "images/0002.png,13,0\n"
    )
    return folder


def patients(folder, setting: str = "") -> int:
    (folder / "site.toml").write_text(f'name = "x"\n{setting}\n')
    table = read_table(open_site(folder), ["label"], Pseudonyms.temporary())
    return len({row.patient for row in table.rows})


def test_two_spellings_are_one_patient_only_when_the_site_says_so(site):
    with pytest.raises(SiteProblem, match=r"'0012' \(line 2\) and '12' \(line 3\)"):
        patients(site)
    assert patients(site, 'patient_numbers = "digits"') == 2
    assert patients(site, 'patient_numbers = "exact"') == 3


def test_a_table_whose_long_numbers_all_end_in_zeros_is_refused(site):
    text = (site / "cohort.csv").read_text()
    text = text.replace("0012", "12345678901234500").replace(",12,", ",12345678901234600,")
    (site / "cohort.csv").write_text(text)
    with pytest.raises(SiteProblem, match=r"line 2: .* a spreadsheet has rounded them"):
        patients(site)
