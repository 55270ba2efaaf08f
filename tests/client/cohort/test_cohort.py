"""From the table to units: every row becomes a unit or is reported as set aside."""

from pathlib import Path

import pytest
from support.hospital import EXPERIMENT, write_cohort, write_site

from fedrad.client.cohort import read_cohort
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import parse_experiment

EXPERIMENT_ = parse_experiment(EXPERIMENT)


def rows_of(folder: Path, table: list[tuple[object, ...]], *more: str):
    """Write a cohort of (file, patient, label, …) and read it."""
    columns = ("file", "patient_id", "label", *more)
    write_cohort(folder, [dict(zip(columns, row, strict=True)) for row in table])
    return read_cohort(open_site(folder), EXPERIMENT_)


@pytest.fixture
def site(tmp_path):
    return write_site(tmp_path / "x", 12)


F = "images/{:04d}.png".format


def test_one_unit_per_patient_by_the_earliest_image(site):
    table = [(F(0), "p", 1, 5), (F(1), "p", 0, 2), (F(2), "p", 1, 10), (F(3), "q", 0, "")]
    units = {u.file.name: u.labels for u in rows_of(site, table, "day").units}
    assert units == {"0001.png": (0.0,), "0003.png": (0.0,)}


def test_the_latest_image_if_the_experiment_asks_for_it(site):
    experiment = parse_experiment(EXPERIMENT + 'index_image = "latest"\n')
    columns = ("file", "patient_id", "label", "date")
    table = [(F(0), "p", 1, "2024-01-05"), (F(1), "p", 0, "2023-12-31")]
    write_cohort(site, [dict(zip(columns, r, strict=True)) for r in table])
    assert [u.file.name for u in read_cohort(open_site(site), experiment).units] == ["0000.png"]


def test_a_missing_outcome_is_neither_class(site):
    units = rows_of(site, [(F(0), "p", ""), (F(1), "q", "1.0")]).units
    assert sorted(u.labels[0] for u in units if u.labels[0] == u.labels[0]) == [1.0]


def test_a_row_without_its_file_is_set_aside_by_name(site):
    cohort = rows_of(site, [(F(0), "p", 1), ("images/gone.png", "q", 0)])
    assert cohort.set_aside == {"images/gone.png": "no such file"}
    assert len(cohort.units) == 1


def test_no_patient_number_is_stored(site):
    assert "CANARY" not in repr(read_cohort(open_site(site), EXPERIMENT_))


@pytest.mark.parametrize(
    ("table", "reason", "words"),
    [
        ([(F(0), "p", 2)], "cohort", r"line 2: label = '2'; allowed are 0, 1 and empty"),
        ([(F(0), "p", "yes")], "cohort", "label = 'yes'"),
        ([(F(0), "p", 1), (F(0), "q", 0)], "cohort", "stands already in line 2"),
        ([(F(0), "", 1)], "cohort", "the patient number is empty"),
        ([("../../secret.png", "p", 1)], "cohort", "outside the site's folder"),
        ([("images/gone.png", "p", 1)], "cohort", "no row has a file that exists"),
    ],
)
def test_a_faulty_table_is_refused_with_line_and_value(site, table, reason, words):
    with pytest.raises(SiteProblem, match=words) as problem:
        rows_of(site, table)
    assert problem.value.reason == reason


def test_a_table_without_the_outcome_names_its_columns(site):
    write_cohort(site, [{"file": F(0), "patient_id": "p", "bpd": 1}])
    with pytest.raises(SiteProblem, match=r"no outcome column 'label'.*'bpd'") as problem:
        read_cohort(open_site(site), EXPERIMENT_)
    assert problem.value.reason == "outcome"


def test_a_missing_table_or_folder_is_named(site):
    (site / "cohort.csv").unlink()
    with pytest.raises(SiteProblem, match="cannot be read as a CSV"):
        read_cohort(open_site(site), EXPERIMENT_)
    with pytest.raises(SiteProblem, match="no such folder"):
        open_site(site / "nowhere")


@pytest.mark.parametrize(("text", "fault"), [(None, "no such file"), ("threads = 1\n", "missing")])
def test_the_error_for_a_site_without_a_name_names_the_file_for_it(site, text, fault):
    (site / "site.toml").unlink(missing_ok=True)
    if text is not None:
        (site / "site.toml").write_text(text)
    with pytest.raises(SiteProblem, match=rf"{fault}.*give the site's name there") as problem:
        open_site(site)
    assert problem.value.reason == "cohort"
    assert open_site(site, name="a").name == "a"


def test_site_toml_refuses_what_it_does_not_know(site):
    (site / "site.toml").write_text('name = "x"\n[policy]\nminimum = 3\n')
    with pytest.raises(
        SiteProblem, match=r"policy.minimum: unknown setting; known here: .*epsilon, .*minimum_bin"
    ):
        open_site(site)
    (site / "site.toml").write_text('name = "x y"\n')
    with pytest.raises(SiteProblem, match="name = 'x y'"):
        open_site(site)
