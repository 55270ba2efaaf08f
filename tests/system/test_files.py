"""Files are written whole or not at all, and no change of a JSON file is lost."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel
from safetensors.numpy import save_file

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import open_site
from fedrad.exchange.experiment import ExperimentError, read_experiment
from fedrad.system.files import (
    JsonFile,
    UnreadableFileError,
    is_locked,
    locked,
    read_regular_text,
    replacing,
    write_whole,
)


class Counts(BaseModel):
    """Content of a file that several processes change."""

    values: list[int] = []


def run(text: str, *arguments: object) -> subprocess.Popen[str]:
    """Start another process that runs a program text after the imports of this module."""
    imports = f"import os, sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    imports += "from pathlib import Path; from test_files import *\n"
    command = [sys.executable, "-c", imports + text, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_a_file_is_written_as_text_or_bytes_and_nothing_lies_beside_it(tmp_path):
    write_whole(tmp_path / "text", "µ\n")
    write_whole(tmp_path / "bytes", b"\xff")
    assert (tmp_path / "text").read_bytes() == "µ\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\xff"
    assert names(tmp_path) == ["bytes", "text"]


def test_others_see_the_old_content_until_the_new_is_complete(tmp_path):
    file = tmp_path / "a"
    write_whole(file, "old")
    with replacing(file) as temporary:
        temporary.write_text("ne")
        assert file.read_text() == "old"
        temporary.write_text("new")
    assert file.read_text() == "new"


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_fault_while_writing_leaves_the_file_as_it_was(tmp_path, fault):
    file = tmp_path / "a"
    write_whole(file, "old")

    def write_half() -> None:
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise fault

    with pytest.raises(fault):
        write_half()
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_process_that_is_killed_while_writing_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "a.json"
    write_whole(file, "old")
    text = (
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = run(text, file)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert file.read_text() == "old"
    assert list(tmp_path.glob("*.json")) == [file]  # the temporary file does not match the pattern
    write_whole(file, "new")
    assert file.read_text() == "new"


def test_what_a_library_writes_in_its_own_way_has_the_permissions_asked_for(tmp_path):
    """safetensors makes a file of mode 600 and puts it in the place of the one it was given."""
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "model.safetensors", private=False) as temporary:
            save_file({"x": np.zeros(3, np.float32)}, temporary)
    finally:
        os.umask(before)
    assert mode(tmp_path / "model.safetensors") == 0o644


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize(("options", "wanted"), [({}, 0o600), ({"private": False}, 0o644)])
def test_a_file_is_for_the_user_alone_unless_it_is_meant_for_others(
    tmp_path, options, wanted, umask
):
    file = tmp_path / "a"
    before = os.umask(umask)
    try:
        for content in ("first", "second"):
            with replacing(file, **options) as temporary:
                assert mode(temporary) == 0o600  # from the start, not only at the end
                temporary.write_text(content)
            assert mode(file) == wanted
    finally:
        os.umask(before)


def test_a_file_that_everybody_could_read_becomes_private(tmp_path):
    file = tmp_path / "key"
    file.touch(mode=0o644)
    write_whole(file, "secret")
    assert mode(file) == 0o600


def test_a_file_too_large_for_the_disk_leaves_the_old_one_and_no_temporary_file(tmp_path):
    file = tmp_path / "a"
    write_whole(file, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_whole(file, b"x" * 2000)
        assert caught.value.filename == str(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "nowhere" / "a", "x")
    assert caught.value.filename == str(tmp_path / "nowhere" / "a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_whole(tmp_path / "folder", "x")
    assert caught.value.filename == str(tmp_path / "folder")
    assert names(tmp_path) == ["folder"]


def test_a_lock_excludes_others_and_ends_with_a_killed_process(tmp_path):
    file = tmp_path / "a"
    assert not is_locked(file)
    text = "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    process = run(text, file)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert is_locked(file)
    with pytest.raises(BlockingIOError) as caught, locked(file, wait=False):
        pass
    assert caught.value.errno in (errno.EAGAIN, errno.EWOULDBLOCK)
    process.kill()
    process.wait()
    assert not is_locked(file)
    with locked(file, wait=False):
        assert is_locked(file)
    assert names(tmp_path) == [".a.lock"]


def test_processes_that_change_one_json_file_lose_nothing(tmp_path):
    file = tmp_path / "counts.json"
    text = (
        "file = JsonFile(Path(sys.argv[1]), Counts)\n"
        "for i in range(20):\n"
        "    with file.changed(Counts) as counts:\n"
        "        before = list(counts.values)\n"
        "        time.sleep(0.002)\n"
        "        counts.values = [*before, int(sys.argv[2]) + i]\n"
    )
    processes = [run(text, file, start) for start in (0, 100)]
    assert [process.wait() for process in processes] == [0, 0]
    counts = JsonFile(file, Counts).read()
    assert counts is not None
    assert sorted(counts.values) == [*range(20), *range(100, 120)]


def test_a_json_file_is_created_at_its_first_change(tmp_path):
    file = JsonFile(tmp_path / "counts.json", Counts)
    assert file.read() is None
    with file.changed(Counts) as counts:
        counts.values.append(1)
    assert file.read() == Counts(values=[1])
    assert mode(file.path) == 0o600


def test_a_change_that_fails_or_changes_nothing_writes_nothing(tmp_path):
    file = JsonFile(tmp_path / "counts.json", Counts)
    file.write(Counts(values=[1]))
    os.utime(file.path, (0, 0))

    def change_and_fail() -> None:
        with file.changed(Counts) as counts:
            counts.values.append(2)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        change_and_fail()
    with file.changed(Counts):
        pass
    assert file.read() == Counts(values=[1])
    assert file.path.stat().st_mtime == 0


@pytest.mark.parametrize("content", ['{"values": ["secret"]}', '{"values', "\x00", "[]"])
def test_a_damaged_json_file_is_refused_unchanged_and_no_value_is_shown(tmp_path, content):
    file = JsonFile(tmp_path / "counts.json", Counts)
    file.path.write_text(content)
    with pytest.raises(UnreadableFileError, match=r"counts\.json: cannot be read") as caught:
        file.read()
    assert "secret" not in str(caught.value)
    with pytest.raises(UnreadableFileError), file.changed(Counts):
        pass
    assert file.path.read_text() == content


def test_a_file_that_is_a_link_to_a_disk_that_is_not_mounted_is_not_begun_anew(tmp_path):
    file = JsonFile(tmp_path / "counts.json", Counts)
    file.path.symlink_to("/mnt/gone/counts.json")
    with pytest.raises(UnreadableFileError, match=r"a link to /mnt/gone/counts\.json"):
        file.read()
    with pytest.raises(UnreadableFileError), file.changed(Counts) as counts:
        counts.values.append(1)
    assert file.path.is_symlink()


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/dev/null"),
        lambda path: path.symlink_to("/proc/self/fd/1"),  # as /dev/stdout, also into a file
    ],
)
def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path, make):
    """Root could: all programs of the machine would then write into that file."""
    path = tmp_path / "null"
    make(path)
    before = path.lstat()
    with pytest.raises(OSError, match="it is a pipe or a device"):
        write_whole(path, "x")
    assert path.lstat() == before


def test_a_read_that_a_broken_disk_ends_names_the_file():
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_regular_text(Path("/proc/self/mem"))
    assert caught.value.filename == "/proc/self/mem"


def test_a_json_file_that_is_a_folder_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match="Is a directory"):
        JsonFile(tmp_path, Counts).read()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "a pipe or a device"),
        (lambda path: path.symlink_to("/dev/zero"), "a pipe or a device"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: path.symlink_to("/nonexistent"), "No such file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(bytes(5_000_000)), "more than 4,000,000 bytes"),
    ],
)
def test_what_is_no_file_of_settings_is_refused_at_once(tmp_path, make, why):
    make(tmp_path / "site.toml")
    with pytest.raises(OSError, match=why):
        read_regular_text(tmp_path / "site.toml")
    with pytest.raises(SiteProblem, match=why):
        open_site(tmp_path, name="a")
    with pytest.raises(ExperimentError, match=why):
        read_experiment(tmp_path / "site.toml")


@pytest.mark.parametrize("text", ["name = 'a'\r\nb = 1\r\n", "\ufeffname = 'a'\rb = 1\r"])
def test_all_ends_of_lines_are_read(tmp_path, text):
    (tmp_path / "x").write_bytes(text.encode())
    assert read_regular_text(tmp_path / "x") == "name = 'a'\nb = 1\n"
