"""What is a patient number, and which spellings can be one number."""

import pytest
from support.hospital import write_site

from fedrad.client.cohort import Pseudonyms, read_table
from fedrad.client.cohort.doubtful_numbers import (
    like_dates,
    like_placeholders,
    like_visits,
    rounded,
)
from fedrad.client.cohort.spelling import alike_numbers, bare, patient_number, perhaps_one
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site


@pytest.mark.parametrize(
    "number",
    [
        "P001",
        "12345",
        "A-1/23",
        "10E5",
        "Müller-3",
        "0",
        "1.2.840.1",
        "K*7",
        "(3)",
        "3E-1024",
        "{0305e82c}",
    ],
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
        ("k. A.", "names no patient"),
        ("Okänd", "names no patient"),
        ("dito", "names no patient"),
        ("siehe oben", "names no patient"),
        ("Summe", "names no patient"),
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
        ("\u0410\u0421100", "AC100"),  # Cyrillic
        ("\u039a100", "K100"),  # Greek
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("010203-1234", "0102031234"),
        ("010203-0123", "102030123"),
        ("756.1234.5678.97", "7561234567897"),
        ("20010203-1234", "010203-1234"),
        ("200102031234", "010203-1234"),
        ("KH001234", "001234"),
        ("KH-001234", "1234"),
    ],
)
def test_one_number_in_forms_that_no_rule_of_spelling_joins(one, other):
    assert not alike_numbers([one, other])
    assert perhaps_one([one, "999999", other, one]) == [sorted((one, other))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1-23456", "12-3456"),
        ("19010203-1234", "20010203-1234"),  # born a century apart
        ("A100234", "B100234"),
        ("1/23", "123"),
        ("20231", "231"),
        ("123456", "200102123456"),
        ("209912311234", "9912311235"),
    ],
)
def test_numbers_that_only_look_alike_are_left_alone(one, other):
    assert not perhaps_one([one, other])


def test_words_and_codes_among_numbers_may_stand_for_nobody():
    numbers = [str(1000 + k) for k in range(20)]
    doubtful = ["-9", "0", "9999999", "Kind A. Meier"]
    assert like_placeholders([*numbers, *doubtful]) == doubtful
    assert like_placeholders([str(k) for k in range(1001)]) == []  # also holds 0, 99 and 999
    assert like_placeholders(["ann", "bea", "carl"]) == []
    assert like_placeholders([*(f"a{k:07d}" for k in range(20)), "abcdefab"]) == []


def test_numbers_that_a_spreadsheet_rounded_or_made_dates_of():
    assert rounded(["12345678901234500", "12345678901234600", "7"]) == [
        "12345678901234500",
        "12345678901234600",
    ]
    assert rounded(["12345678901234501", "12345678901234600"]) == []
    assert like_dates(["3-4", "04-Mar", "Mrz 05", "17"]) == ["04-Mar", "Mrz 05"]
    assert like_dates(["3-4", "03-avr", "3. févr.", "4-maj"]) == ["03-avr", "3. févr.", "4-maj"]
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


@pytest.mark.parametrize("rule", ["", 'patient_numbers = "digits"'])
def test_a_number_with_and_without_its_hyphen_is_refused_unless_the_site_calls_them_two(site, rule):
    text = (site / "cohort.csv").read_text()
    text = text.replace("0012", "010203-1234").replace(",12,", ",0102031234,")
    (site / "cohort.csv").write_text(text)
    words = r"'010203-1234' \(line 2\) and '0102031234' \(line 3\)\. If these are the same"
    with pytest.raises(SiteProblem, match=words):
        patients(site, rule)
    assert patients(site, 'patient_numbers = "exact"') == 3


def test_a_table_whose_long_numbers_all_end_in_zeros_is_refused(site):
    text = (site / "cohort.csv").read_text()
    text = text.replace("0012", "12345678901234500").replace(",12,", ",12345678901234600,")
    (site / "cohort.csv").write_text(text)
    with pytest.raises(SiteProblem, match=r"line 2: .* a spreadsheet has rounded them"):
        patients(site)


def test_numbers_that_may_be_visits_of_one_patient():
    visits = [f"P{k}_{visit}" for k in range(10) for visit in (1, 2)]
    assert like_visits(visits)[0] == ["P0_1", "P0_2"]
    assert like_visits([f"P{k}-V{visit}" for k in range(10) for visit in (1, 2)])
    assert not like_visits([f"{ward}-{k:02d}" for ward in "ABC" for k in range(30)])
    assert not like_visits([f"{k}/23" for k in range(30)])
    assert not like_visits([*(f"P{k}" for k in range(30)), "P1_1", "P1_2", "P2_1", "P2_2"])
