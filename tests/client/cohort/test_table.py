"""Tables are read as hospitals export them; contradictions are refused, with their line."""

import stat
from pathlib import Path

import pytest
from support.hospital import EXPERIMENT, write_site

from fedrad.client.cohort import Pseudonyms, find_by_uid, read_cohort, read_table
from fedrad.client.cohort.cells import day, number
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import parse_experiment

EXPERIMENT_ = parse_experiment(EXPERIMENT)


@pytest.fixture
def site(tmp_path):
    return write_site(tmp_path / "x", 4)


def table_of(folder: Path, content: str | bytes, outcomes=("label",)):
    text = content if isinstance(content, bytes) else content.encode()
    (folder / "cohort.csv").write_bytes(text)
    return read_table(open_site(folder), outcomes, Pseudonyms.temporary())


PLAIN = "file,patient_id,label,day\nimages/0000.png,p,1,1.5\nimages/0001.png,q,0,2\n"


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (PLAIN.encode(), "UTF-8"),
        (b"\xef\xbb\xbf" + PLAIN.encode(), "UTF-8"),
        (PLAIN.replace(",", ";").replace("1.5", "1,5").encode(), "UTF-8"),
        (PLAIN.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"), "UTF-16"),
        (b"sep=;\r\n" + PLAIN.replace(",", ";").encode(), "UTF-8"),
        (
            PLAIN.replace("label,", "label,Größe,")
            .replace(",1,1", ",1,ä,1")
            .replace(",0,2", ",0,,2")
            .encode("cp1252"),
            "Windows-1252",
        ),
        (PLAIN.replace("patient_id", " Patient ID ").replace("\n", ",,\n").encode(), "UTF-8"),
        (PLAIN.replace("images/", "images\\").replace(",q", " , q ").encode(), "UTF-8"),
        (PLAIN.replace(",1,", ",1.0,").replace("\n", "\n\n").encode(), "UTF-8"),
    ],
)
def test_one_table_in_the_spellings_of_real_spreadsheets(site, content, encoding):
    table = table_of(site, content)
    assert table.encoding == encoding
    assert [(r.name, r.labels, r.orders) for r in table.rows] == [
        ("images/0000.png", (1.0,), (1.5,)),
        ("images/0001.png", (0.0,), (2.0,)),
    ]
    assert all(row.file is not None for row in table.rows)


def test_an_absolute_path_inside_the_folder_is_fine(site):
    table = table_of(site, PLAIN.replace("images/0000", f"{site}/images/0000"))
    assert table.rows[0].name == "images/0000.png"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PLAIN.replace("images/0000.png", "/etc/passwd"), "line 2: /etc/passwd lies outside"),
        (PLAIN.replace("images/0000.png", "..\\..\\x.png"), "line 2: .* lies outside"),
        (PLAIN.replace("images/0000.png", "C:\\x.png"), "line 2: .* Windows drive"),
        (PLAIN.replace("patient_id", "who"), "no column 'patient_id'; columns are"),
        (PLAIN.replace("day", "LABEL"), "2 columns are named 'label'; keep one"),
        (PLAIN.replace("day", "label"), "2 columns are named 'label'; keep one"),
        (PLAIN + "images/0002.png,r,1,2,3\n", "line 4: 5 cells for 4 columns"),
        (PLAIN + "images/0000.png,q,1,1.5\n", "line 4: .* line 2, with another patient"),
        (PLAIN + "images/0000.png,p,0,1.5\n", "line 4: .* line 2, with another outcome"),
        (PLAIN.replace(",1.5", ",03/04/2024"), "line 2: day = .03/04/2024.; write a number, or"),
        (b"PK\x03\x04", "Excel workbook; save it as CSV"),
        (b"", "the table is empty"),
        ("file,patient_id,label\n", "the table has no rows"),
        (b"a\0b", "holds no text"),
    ],
)
def test_a_contradiction_is_refused_with_its_line(site, content, words):
    with pytest.raises(SiteProblem, match=words):
        table_of(site, content)


def test_a_repeated_row_counts_once_and_is_named(site):
    table = table_of(site, PLAIN + "images/0000.png,p,1,1.5\n")
    assert len(table.rows) == 2
    assert table.repeated == {"images/0000.png (line 4)": "line 2 says the same"}


def test_outcomes_are_detected_if_no_experiment_names_any(site):
    text = "file,patient_id,sex,bpd,day,rop\nimages/0000.png,p,1,1,0,\nimages/0001.png,q,0,0,1,1\n"
    assert table_of(site, text, None).outcomes == ("bpd", "rop")
    with pytest.raises(SiteProblem, match="no column holds an outcome"):
        table_of(site, text.replace(",bpd,", ",age,").replace(",rop", ",view"), None)


def test_a_column_that_site_toml_names_must_be_there(site):
    (site / "site.toml").write_text('name = "x"\n[columns]\nsplit = "part"\n')
    with pytest.raises(SiteProblem, match="no column 'part'"):
        table_of(site, PLAIN)


def test_files_are_found_by_their_sop_instance_uid(site):
    table = table_of(site, "sop_instance_uid,patient_id,label\n1.2,p,1\n1.3,q,0\n")
    uids = {"0002.png": "1.2"}
    completed = find_by_uid(
        table, open_site(site), lambda files: [uids.get(f.name, "") for f in files]
    )
    assert [row.file and row.file.name for row in completed.rows] == ["0002.png", None]
    with pytest.raises(SiteProblem, match=r"files have this SOP\s+Instance UID"):
        find_by_uid(table, open_site(site), lambda files: ["1.2"] * len(files))


def test_the_index_image_is_missing_so_the_patient_is_set_aside_not_a_later_image_taken(site):
    (site / "cohort.csv").write_text(
        "file,patient_id,label,day\nimages/gone.png,p,1,1\nimages/0001.png,p,1,9\n"
        "images/0002.png,q,0,1\n"
    )
    cohort = read_cohort(open_site(site), EXPERIMENT_)
    assert cohort.set_aside == {"images/gone.png": "no such file"}
    assert [unit.name for unit in cohort.units] == ["images/0002.png"]


def test_a_pseudonym_is_the_same_at_its_site_and_another_elsewhere(tmp_path):
    here = Pseudonyms.load_or_create(tmp_path / "a")
    assert Pseudonyms.load_or_create(tmp_path / "a").of("p") == here.of("p")
    assert Pseudonyms.load_or_create(tmp_path / "b").of("p") != here.of("p")
    assert stat.S_IMODE((tmp_path / "a" / "salt").stat().st_mode) == 0o600
    (tmp_path / "a" / "salt").write_bytes(b"short")
    with pytest.raises(SiteProblem, match="is damaged; restore it"):
        Pseudonyms.load_or_create(tmp_path / "a")


def test_numbers_and_dates_as_people_write_them():
    assert [number(t) for t in ("1", "1.5", "1,5", "", "x", "1.000,5")] == [1, 1.5, 1.5] + [
        None
    ] * 3
    assert str(day("2024-02-29 10:00")) == str(day("29.2.2024")) == str(day("20240229"))
    assert day("3/4/2024") is None
    assert day("31.2.2024") is None
