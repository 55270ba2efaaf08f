"""The release names the code that is installed, and nothing else of the installation."""

import compileall
import importlib.metadata
import os
import re
import time
from pathlib import Path

import pytest

from fedrad.system.release import (
    RELEASE_PATTERN,
    code_sha256,
    release,
    same_release,
    short_release,
)


def package(folder: Path) -> Path:
    """A small package: two modules, a template, a folder that is a link."""
    room = folder / "rooms" / "client"
    (room / "templates").mkdir(parents=True)
    (room / "app.py").write_text("answer = 41\n")
    (room / "templates" / "site.toml").write_text("# a site\n")
    package = folder / "installed"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "client").symlink_to(room)
    return package


def test_the_release_is_the_version_and_a_hash_of_the_installed_code():
    version, _, hash_ = release().partition("+sha256:")
    assert version == importlib.metadata.version("fedrad")
    assert re.fullmatch("[0-9a-f]{64}", hash_)
    assert re.fullmatch(RELEASE_PATTERN, release())
    assert short_release(release()) == f"{version}+sha256:{hash_[:12]}"


def test_the_same_code_elsewhere_is_the_same_release(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = package(tmp_path / "a"), package(tmp_path / "b")
    os.utime(other / "client" / "app.py", (0, 0))
    compileall.compile_dir(other, quiet=2)
    (other / "client" / "notes.txt").write_text("not of the distribution")
    assert code_sha256(one) == code_sha256(other)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("client/app.py", "answer = 42\n"),  # as long as before
        ("client/templates/site.toml", "# another site\n"),
        ("client/more.py", ""),
        ("client/app.so", "run in place of app.py"),
        ("client/app.pyc", "run if app.py is gone"),
    ],
)
def test_one_changed_or_added_file_is_another_release(tmp_path, file, content):
    folder = package(tmp_path)
    before = code_sha256(folder)
    (folder / file).write_text(content)
    assert code_sha256(folder) != before


def test_a_file_that_is_gone_or_has_another_name_is_another_release(tmp_path):
    folder = package(tmp_path)
    hashes = {code_sha256(folder)}
    (folder / "client" / "app.py").rename(folder / "client" / "main.py")
    hashes.add(code_sha256(folder))
    (folder / "client" / "main.py").unlink()
    hashes.add(code_sha256(folder))
    assert len(hashes) == 3


def test_the_first_look_at_the_code_takes_less_than_half_a_second():
    release.cache_clear()
    started = time.perf_counter()
    release()
    assert time.perf_counter() - started < 0.5


HASH = "0123456789ab" + "c" * 52


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (f"1.0+sha256:{HASH}", f"1.0+sha256:{HASH}", True),
        (f"1.0+sha256:{HASH}", f"1.0+sha256:{HASH[:12]}", True),
        (f"1.0+sha256:{HASH}", f"1.1+sha256:{HASH}", False),
        (f"1.0+sha256:{HASH}", f"1.0+sha256:{HASH[:11]}d", False),
        (f"1.0+sha256:{HASH}", f"1.0+sha256:{HASH[:11]}", False),  # too short to name a release
        (f"1.0+sha256:{HASH}", "1.0", False),
        ("", "", False),
    ],
)
def test_a_release_may_be_named_by_the_beginning_of_its_hash(one, other, same):
    assert same_release(one, other) is same
    assert same_release(other, one) is same
