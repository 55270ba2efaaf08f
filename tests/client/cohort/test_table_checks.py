"""The check says what is doubtful about a table, and nothing about a sound one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.hospital import EXPERIMENT, write_cohort

from fedrad.client.cohort.inspection import inspect
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import parse_experiment

CHECKS = (
    "patient numbers",
    "columns that are nearly outcomes",
    "groups of patients",
    "spelling of file names",
    "dates",
    "order of a patient's images",
)


@pytest.fixture
def rows(tmp_path) -> list[dict[str, object]]:
    """24 images of 12 patients, two a day, with a time."""
    folder = tmp_path / "ward"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(24):
        picture = rng.integers(0, 255, (32, 32)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"images/{k}.png")
    return [
        {
            "file": f"images/{k}.png",
            "patient_id": f"P{k // 2:02d}",
            "label": k // 2 % 2,
            "bpd": k // 2 % 2,
            "sex": "FM"[k // 2 % 2],
            "date": f"2024-01-05 {7 + k % 2}:30",
        }
        for k in range(24)
    ]


def findings(
    tmp_path: Path, rows: list[dict[str, object]], setting: str = "", experiment: str = ""
) -> dict[str, list[tuple[str, ...]]]:
    """Check -> texts of its findings, each with its files."""
    folder = tmp_path / "ward"
    write_cohort(folder, rows)
    (folder / "site.toml").write_text(f'name = "ward"\ndecoders = 1\n{setting}\n')
    site = open_site(folder, state=tmp_path / "state")
    parsed = parse_experiment(experiment) if experiment else None
    results = inspect(site, parsed, lambda *_: None)[0].results
    return {
        result.name: [(f.text, *(n for group in f.files for n in group)) for f in result.findings]
        for result in results
    }


def test_a_sound_table_is_counted_and_nothing_else_is_said(tmp_path, rows):
    found = findings(tmp_path, rows)
    assert found["rows of the table"] == [("24 rows in the table, 24 read; 12 patients",)]
    assert not any(found[name] for name in CHECKS)


def test_what_is_doubtful_is_named(tmp_path, rows):
    rows[1]["patient_id"] = "P00\u200b"
    rows[2]["date"] = rows[3]["date"]
    rows[4]["bpd"] = "yes"
    rows[6]["file"] = "images/6.PNG"
    rows[8]["patient_id"] = rows[9]["patient_id"] = "04-Mar"
    for row in rows:
        row["outcome_date"] = "45296"
    rows.append(rows[10])
    found = findings(tmp_path, rows)
    assert found["rows of the table"] == [
        ("25 rows in the table, 24 read, 1 repeat another; 12 patients",)
    ]
    several, dates = found["patient numbers"]
    assert several[0].startswith("1 patients have a number in several spellings")
    assert r"'P00\u200b'" in several
    assert "'04-Mar'" in dates
    assert "bpd: line 6: 'yes'" in found["columns that are nearly outcomes"][0][0]
    assert found["spelling of file names"][0][1] == "images/6.PNG: 6.png, in another case"
    assert "the first is in line 2: '45296' (perhaps the serial number" in found["dates"][0][0]
    text, *files = found["order of a patient's images"][0]
    assert text.startswith("1 of 12 patients with several images have images at equal places")
    assert files == ["images/2.png: line 4", "images/3.png: line 5"]


def test_numbers_that_the_site_calls_different_are_listed(tmp_path, rows):
    rows[0]["patient_id"] = "p01"
    found = findings(tmp_path, rows, 'patient_numbers = "exact"')
    text, *numbers = found["patient numbers"][0]
    assert "by site.toml they are different patients" in text
    assert numbers == ["'P01'", "'p01'"]


def test_a_number_in_very_many_rows_may_be_a_placeholder(tmp_path, rows):
    more = [dict(row, file=f"{row['file']}?", patient_id="0") for row in rows]
    found = findings(tmp_path, [*rows, *more], "tolerance = 1.0")
    assert "one number stands in 24 of 48 rows" in found["patient numbers"][0][0]


@pytest.mark.parametrize("setting", ["", 'patient_numbers = "digits"'])
def test_codes_for_patients_without_a_number_are_named(tmp_path, rows, setting):
    rows[0]["patient_id"] = rows[5]["patient_id"] = "-9"
    found = findings(tmp_path, rows, setting)
    text, *numbers = found["patient numbers"][-1]
    assert "words or codes for patients without a number" in text
    assert numbers == ["'-9'"]


def test_columns_that_order_the_images_of_a_patient_in_opposite_ways_are_named(tmp_path, rows):
    for at, row in enumerate(rows):
        row["order_index"] = at
    assert not findings(tmp_path, rows)["order of a patient's images"]
    rows[4]["order_index"] = 9
    found = findings(tmp_path, rows)["order of a patient's images"]
    text, *files = found[0]
    assert text.startswith("1 of 12 patients with several images have them in one order by one")
    assert files == ["images/4.png: line 6", "images/5.png: line 7"]
    assert not findings(tmp_path, rows, '[columns]\norder = "date"')["order of a patient's images"]


def test_a_table_that_may_be_cut_is_said(tmp_path, rows):
    findings(tmp_path, rows)
    table = tmp_path / "ward/cohort.csv"
    table.write_bytes(table.read_bytes().rstrip())
    site = open_site(tmp_path / "ward", state=tmp_path / "state")
    results = inspect(site, None, lambda *_: None)[0].results
    texts = [f.text for r in results if r.name == "rows of the table" for f in r.findings]
    assert texts[1] == "the last line of the table has no end: see whether the table is whole"


def test_images_that_stand_in_no_row_are_counted(tmp_path, rows):
    (tmp_path / "ward/images/notes.txt").write_text("no image")
    found = findings(tmp_path, rows[:-2])["rows of the table"]
    text, *files = found[1]
    assert text.startswith("2 files of the same kind lie beside those of the table")
    assert files == ["22.png", "23.png"]


def test_values_in_no_group_of_the_experiment_are_named(tmp_path, rows):
    rows[3]["sex"] = "x"
    rows[5]["sex"] = ""
    experiment = EXPERIMENT + '[evaluation.subgroups]\nsex = ["F", "M"]\n'
    found = findings(tmp_path, rows, experiment=experiment)
    assert found["groups of patients"] == [
        ("1 values of sex are in no group; the first is in line 5: 'x'",)
    ]


def test_all_copies_of_an_image_are_listed_together(tmp_path, rows):
    for k in (1, 5, 7):
        (tmp_path / f"ward/images/{k}.png").write_bytes(
            (tmp_path / "ward/images/3.png").read_bytes()
        )
    found = findings(tmp_path, rows)
    text, *files = found["one patient under two numbers"][0]
    assert text.startswith("1 images stand under two patient numbers, in 4 files")
    assert files == [f"images/{k}.png" for k in (1, 3, 5, 7)]
