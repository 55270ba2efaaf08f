"""Names and cells are shown as text, whatever bytes and characters are in them."""

import io
import os
import sys

import pytest
from rich.table import Table

from fedrad.system.files import write_whole
from fedrad.system.log_file import PrivateLogHandler
from fedrad.system.terminal import PlainConsole
from fedrad.system.text import ESCAPED, visible

ODD = os.fsdecode(b"caf\xe9.dcm")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Müller 0.png", "Müller 0.png"),
        (ODD, r"caf\xe9.dcm"),
        ("two\nlines", r"two\nlines"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("P\u200b7", r"P\u200b7"),
        ("P\xa07", r"P\xa07"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text, seen):
    assert visible(text) == seen


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_encoding_takes_every_name(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding, ESCAPED)
    stream.write(f"{ODD} \u4e2d")
    stream.flush()
    assert stream.buffer.getvalue().startswith(rb"caf\xe9.dcm ")


@pytest.mark.parametrize(
    "name",
    ["[red]x[/]", "[/]", "scan:heart:.png", "a[b", "\\[x]", "[@click]"],
)
def test_a_name_in_brackets_is_shown_as_it_is(name, capsys):
    table = Table(name, title=name)
    table.add_row(name)
    console = PlainConsole()
    console.print(table)
    console.print(f"{name}: cannot be used")
    assert capsys.readouterr().out.count(name) == 4


def test_no_name_moves_the_cursor(capsys):
    PlainConsole().print("\x1b[2J\x07 gone\r")
    assert capsys.readouterr().out == "\\x1b[2J\\x07 gone\\r\n"


def test_an_odd_name_is_escaped_in_files_and_logs(tmp_path, capsys):
    import logging

    write_whole(tmp_path / "table.csv", f"{ODD},1\n")
    assert (tmp_path / "table.csv").read_bytes() == b"caf\\xe9.dcm,1\n"
    handler = PrivateLogHandler(tmp_path / "site.log")
    handler.emit(logging.makeLogRecord({"msg": ODD}))
    handler.close()
    assert (tmp_path / "site.log").read_bytes() == b"caf\\xe9.dcm\n"
    assert capsys.readouterr().err == ""


def test_a_file_name_may_have_all_255_bytes(tmp_path):
    file = tmp_path / ("ü" * 125 + ".json")
    write_whole(file, "{}")
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]
    assert sys.getfilesystemencoding() == "utf-8"
