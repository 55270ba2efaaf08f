"""A table is read strictly: what could be read in two ways is refused with its line."""

import pytest

from fedrad.client.cohort.spreadsheet import read_spreadsheet
from fedrad.client.problems import SiteProblem

HEADER = "file,patient_id,label,remark\n"
ROWS = [f"images/{k}.png,P{k},{k % 2}," for k in range(8)]


def read(tmp_path, content: str | bytes):
    file = tmp_path / "cohort.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_spreadsheet(file)


def with_row(at: int, row: str) -> str:
    return HEADER + "\n".join([*ROWS[:at], row, *ROWS[at + 1 :]]) + "\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (with_row(4, ROWS[4] + '"left side up'), "line 6: a quotation mark is opened and not"),
        (
            with_row(4, ROWS[4] + '"left').replace("P6,0,", 'P6,0,6"'),
            "line 6: a quotation mark is opened and not closed in this line",
        ),
        (with_row(4, ROWS[4] + '"one\ntwo"'), "line 6: .* If a value holds a line break, take it"),
        (with_row(4, '"images/4.png" x,P4,0,'), "line 6: a quotation mark"),
        (with_row(4, "images/4.png,0,"), "line 6: 3 cells for 4 columns"),
        (with_row(4, "images/4.png,P4,0"), "line 6: 3 cells for 4 columns"),
        (with_row(4, "images/4.png,P4,0,a, b"), "line 6: 5 cells for 4 columns"),
        (with_row(4, ROWS[4].replace(",", ";")), "line 6: 1 cells for 4 columns"),
        ("file,patient_id,label,\n" + "a,b,1,\nc,d,0,x\n", "line 3: has a value in a column with"),
        ('file,"patient_id,label,remark\n' + "\n".join(ROWS), "line 1: a quotation mark in the"),
        (
            'file,patient_id,label,"remark\n' + "\n".join(ROWS[:3]) + '"\n' + "\n".join(ROWS[3:]),
            "line 1: a quotation mark in the header",
        ),
        ("file;label,patient_id\na;1,p\n", "line 1: the header can be divided by comma or by semi"),
        (
            HEADER.encode() + "a.png,Mü,1,\n".encode() + "b.png,Mö,1,\n".encode("cp1252"),
            "line 3: is not in UTF-8, and other lines are",
        ),
        (HEADER.encode("utf-16-le"), "line 1: .* UTF-16 without a byte order mark"),
        (b"\xff\xfe" + HEADER.encode("utf-16-le") + b"\0", "its text is not in UTF-16"),
        (b"a,\x81\n", "its text is not in Windows-1252"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path, content, words):
    with pytest.raises(SiteProblem, match=words):
        read(tmp_path, content)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_line_ends_and_encodings(tmp_path, end, encoding):
    text = (HEADER + "\n".join(ROWS) + "\n").replace("\n", end)
    sheet = read(tmp_path, text.encode(encoding))
    assert len(sheet.rows) == 8
    assert sheet.lines == list(range(2, 10))
    assert sheet.ended


def test_an_old_mac_writes_names_in_mac_roman(tmp_path):
    sheet = read(tmp_path, "file,patient_id\rMüller.png,p\r".encode("mac_roman"))
    assert (sheet.rows[0][0], sheet.encoding) == ("Müller.png", "Mac Roman")


def test_a_header_may_hold_a_line_break(tmp_path):
    sheet = read(tmp_path, 'file,"patient\nid",label\na,p,1\n')
    assert sheet.header == ["file", "patient id", "label"]
    assert sheet.lines == [3]


def test_what_spreadsheets_write_is_read(tmp_path):
    sheet = read(tmp_path, 'sep=;\r\n\r\nfile;remark;;\r\n"a.png";"6"" tube; new";;\r\n;;;\r\n')
    assert sheet.header == ["file", "remark"]
    assert sheet.rows == [["a.png", '6" tube; new']]
    assert sheet.lines == [4]


def test_a_table_whose_last_line_has_no_end_may_be_cut(tmp_path):
    assert not read(tmp_path, HEADER + ROWS[0]).ended
