"""Which image stands for a patient: by time of day where there are several a day, never guessed."""

import pytest
from support.hospital import EXPERIMENT, write_site

from fedrad.client.cohort import Pseudonyms, read_cohort, read_table
from fedrad.client.cohort.cells import age, day, moment, number, time_of_day
from fedrad.client.cohort.order import order_images
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import parse_experiment

EVENING, MORNING, OTHER = "images/0000.png", "images/0001.png", "images/0002.png"


@pytest.fixture
def folder(tmp_path):
    return write_site(tmp_path / "x", 4)


def cohort_of(folder, columns: str, one: str, two: str, three: str, setting: str = ""):
    """A patient of two images and another of one; `columns` after file, patient and label."""
    (folder / "cohort.csv").write_text(
        f"file;patient_id;label;{columns}\n{EVENING};p;1;{one}\n{MORNING};p;1;{two}\n"
        f"{OTHER};q;0;{three}\n"
    )
    (folder / "site.toml").write_text(f'name = "x"\nthreads = 1\n{setting}\n')
    return open_site(folder, state=folder.parent / "state")


def index_images(site) -> list[str]:
    return sorted(u.name for u in read_cohort(site, parse_experiment(EXPERIMENT)).units)


@pytest.mark.parametrize(
    ("columns", "evening", "morning", "setting"),
    [
        ("date", "2024-01-05 18:00", "2024-01-05 07:30", ""),
        ("date", "2024-01-05T18:00:00", "2024-01-05T07:30:00.5", ""),
        ("date", "05.01.2024 18:00", "5.1.2024 07:30", ""),
        ("date", "2024-01-05\u00a018:00", "2024-01-05 07:30", ""),
        ("date", "20240105180000", "20240105073000", ""),
        ("date", "2024-01-05T18:00+01:00", "2024-01-05T18:00+09:00", ""),
        ("date;hour", "2024-01-05;18:00", "2024-01-05;07:30", '[columns]\ntime = "hour"'),
        ("date;hour", "2024-01-05;180000.5", "2024-01-05;073000", '[columns]\ntime = "hour"'),
        ("day_offset;date", "3;2024-01-05 18:00", "3;2024-01-05 7:30", ""),
        ("day_offset", "3,5", "3,25", ""),
        ("order_index", "45297", "45296", ""),
    ],
)
def test_the_morning_image_is_the_earliest(folder, columns, evening, morning, setting):
    site = cohort_of(folder, columns, evening, morning, evening, setting)
    assert index_images(site) == [MORNING, OTHER]


@pytest.mark.parametrize(
    ("columns", "one", "two"),
    [
        ("date", "2024-01-05", "2024-01-05"),
        ("date", "2024-01-05 00:00:00", "2024-01-05 07:30"),
        ("date", "2024-01-05 18:00", "2024-01-05"),
        ("day_offset", "3", "3.0"),
        ("date", "2024-01-05", ""),
        ("remark", "", ""),
    ],
)
def test_where_nothing_tells_which_is_first_the_patient_is_left_out_by_setting(
    folder, columns, one, two
):
    site = cohort_of(folder, columns, one, two, one)
    rows = read_table(site, ["label"], Pseudonyms.temporary()).rows
    of_p = [row for row in rows if row.name != OTHER]
    assert {row.name for row in order_images(of_p, "earliest").tied} == {EVENING, MORNING}
    assert index_images(site) == [EVENING, OTHER]
    site = cohort_of(folder, columns, one, two, one, 'unordered = "left out"')
    cohort = read_cohort(site, parse_experiment(EXPERIMENT))
    assert [unit.name for unit in cohort.units] == [OTHER]
    assert set(cohort.unordered) == {EVENING, MORNING}


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        ("45296", "2024-01-05", r"line 3: date = .* is a date, and line 2 holds a number"),
        ("2024-01-05", "45296", r"line 3: .* is a number \(perhaps the serial number"),
        ("2024-01-05T18:00", "2024-01-05T07:30Z", "line 3: .* is a date with a time zone"),
        ("2024-01-05", "05/01/2024", "line 3: .* write a number, or a date as YYYY-MM-DD"),
        ("2024-01-05", "2024-01-05 18h", "line 3: "),
        ("2024-01-05", "9999-12-31", "line 3: "),
        ("2024-01-05", "nan", "line 3: "),
        ("1", "45,306", "line 3: .* may mean 45306 or 45.306"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_line(folder, one, two, words):
    site = cohort_of(folder, "date", one, two, "")
    with pytest.raises(SiteProblem, match=words):
        index_images(site)


def test_a_time_that_cannot_be_read_is_refused(folder):
    columns = '[columns]\ntime = "hour"'
    site = cohort_of(folder, "date;hour", "2024-01-05;6pm", "2024-01-05;07:30", ";", columns)
    with pytest.raises(SiteProblem, match="line 2: hour = '6pm'; write a time of day"):
        index_images(site)
    site = cohort_of(folder, "date", "2024-01-05", "2024-01-06", "", columns)
    with pytest.raises(SiteProblem, match="no column 'hour'"):
        index_images(site)


def test_cells_as_people_write_them():
    assert [number(t) for t in ("1", "1,5", "−1", "1_0", "nan", "1e999", ".5")] == [
        *(1, 1.5, -1),
        *[None] * 4,
    ]
    assert str(day("2024/1/5")) == str(day("5.1.2024")) == "2024-01-05"
    assert [day(t) for t in ("3/4/2024", "31.2.2024", "45296", "1900-01-01")] == [None] * 4
    assert moment("2024-01-05 24:00") is None
    assert [age(t) for t in ("045Y", "018M", "010D", "45", "45Y", "")] == [
        *(45, 1.5, 10 / 365.25, 45),
        *[None] * 2,
    ]
    assert [time_of_day(t) for t in ("7:30", "0730", "073000.25", "730")] == [
        *(27000, 27000, 27000.25),
        None,
    ]


def test_a_time_that_may_have_lost_its_zeros_is_refused(folder):
    """001500 is a quarter past midnight; a spreadsheet makes 1500 of it, which is the afternoon."""
    times = '[columns]\ntime = "hour"'
    site = cohort_of(
        folder, "date;hour", "2024-01-05;113000", "2024-01-05;1500", "2024-01-05;", times
    )
    with pytest.raises(SiteProblem, match="line 3: hour = '1500', and other times have six digits"):
        index_images(site)
    site = cohort_of(
        folder, "date;hour", "2024-01-05;1500", "2024-01-05;1130", "2024-01-05;", times
    )
    assert index_images(site) == [MORNING, OTHER]
