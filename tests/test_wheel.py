"""The wheel holds all that an installation needs: every package, template and marker."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.paths import ROOT

from fedrad.system.release import code_sha256

ROOMS = sorted(link.name for link in (ROOT / "src" / "fedrad").iterdir() if link.is_symlink())
OTHER_FILES = ("*.j2", "*.css", "*.toml", "py.typed")
"""Files of a package that are not Python."""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A wheel that is built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", *ROOMS):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, folder / name)
    build = (
        "import sys; from setuptools import build_meta; sys.argv[1:] = []; "
        "print(build_meta.build_wheel('dist'))"
    )
    subprocess.run([sys.executable, "-c", build], cwd=folder, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def names(built) -> set[str]:
    """Files of the wheel."""
    return set(zipfile.ZipFile(built).namelist())


def sources(room: str) -> list[Path]:
    return [f for f in (ROOT / room).rglob("*") if f.is_file() and "__pycache__" not in f.parts]


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_and_template_of_a_room_is_in_it(room, names):
    wanted = {
        f"fedrad/{file.relative_to(ROOT).as_posix()}"
        for file in sources(room)
        if file.suffix == ".py" or any(file.match(pattern) for pattern in OTHER_FILES)
    }
    assert wanted
    assert wanted <= names, wanted - names


def test_every_file_beside_the_modules_is_of_a_known_kind():
    """Another kind would have to be named under package-data, and here."""
    for room in ROOMS:
        for file in sources(room):
            assert (
                file.suffix == ".py"
                or any(file.match(p) for p in OTHER_FILES)
                or (
                    room == "deploy"
                    and file.relative_to(ROOT / room).parts[0] in {"docker", "systemd"}
                )
            ), file


def test_it_holds_nothing_else(names):
    assert "fedrad/py.typed" in names
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"fedrad", next(top for top in tops if top.endswith(".dist-info"))}
    assert {n.split("/")[1] for n in names if n.startswith("fedrad/")} == {
        "__init__.py",
        "py.typed",
        *ROOMS,
    }
    entry_points = [name for name in names if name.endswith("entry_points.txt")]
    assert len(entry_points) == 1


def test_its_code_has_the_same_hash_as_the_working_tree(built, tmp_path):
    zipfile.ZipFile(built).extractall(tmp_path)
    assert code_sha256(tmp_path / "fedrad") == code_sha256(ROOT / "src" / "fedrad")
