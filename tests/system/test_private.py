"""A program of fedrad is for the user who runs it, and a folder is looked at before it is used."""

import ast
import os
import resource
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.paths import TESTS

from fedrad.system import private
from fedrad.system.folders import make_folder
from fedrad.system.private import privacy_fault, set_privacy

REPOSITORY = TESTS.parent
ROOMS = [link.name for link in (REPOSITORY / "src" / "fedrad").iterdir() if link.is_symlink()]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture(params=[0o000, 0o022], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def in_a_program(code: str, folder: Path) -> str:
    """What a program prints that begins as those of fedrad do."""
    begin = "import os; os.umask(0); from fedrad.system.private import *; make_private(); "
    command = [sys.executable, "-c", begin + code]
    return subprocess.run(command, check=True, cwd=folder, text=True, capture_output=True).stdout


# Programs


def mains() -> dict[str, ast.stmt]:
    """Entry point -> the first statement of what it runs."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    found = {}
    for target in project["project"]["scripts"].values():
        module, _, function = target.partition(":")
        file = REPOSITORY / Path(*module.split(".")[1:]).with_suffix(".py")
        found[target] = first_statement(ast.parse(file.read_text()), function)
    for room in ROOMS:
        for file in (REPOSITORY / room).rglob("*.py"):
            tree = ast.parse(file.read_text())
            for node in tree.body:
                if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
                    found[str(file.relative_to(REPOSITORY))] = followed(tree, node.body[0])
    return found


def followed(tree: ast.Module, statement: ast.stmt) -> ast.stmt:
    """A statement, or the first one of the module's function that it calls."""
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    own = [c.func.id for c in calls if isinstance(c.func, ast.Name) and c.func.id in names]
    return first_statement(tree, own[0]) if own else statement


def first_statement(tree: ast.Module, function: str) -> ast.stmt:
    body = next(n.body for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function)
    documented = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    return body[1] if documented else body[0]


def test_every_program_begins_by_making_itself_private():
    programs = mains()
    assert len(programs) >= 6
    assert {name for name, first in programs.items() if ast.unparse(first) != "make_private()"} == (
        set()
    )


def test_what_a_program_writes_is_for_its_user_whatever_the_umask_was(tmp_path):
    in_a_program("open('a', 'w'); os.mkdir('b'); os.system('touch c')", tmp_path)
    assert [mode(tmp_path / name) for name in "abc"] == [0o600, 0o700, 0o600]


def test_a_program_that_crashes_leaves_no_image_in_a_core_file(tmp_path):
    """Not even if the system passes core files to a program, which a limit of 0 does not end."""
    limits = in_a_program(
        "import resource; print(resource.getrlimit(resource.RLIMIT_CORE), "
        "open('/proc/self/coredump_filter').read())",
        tmp_path,
    )
    assert limits.split(") ")[1].strip() == "00000000"
    most = 0 if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 1
    assert limits.startswith(f"({most}, {most})")
    code = (
        "import os, resource; from fedrad.system.private import make_private; make_private(); "
        "os.abort()"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert ended.returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_a_program_lie_in_the_folder_that_it_works_in(tmp_path):
    code = (
        "import tempfile; use_temporary_folder(__import__('pathlib').Path('state')); "
        "print(tempfile.NamedTemporaryFile().name, os.environ['TMPDIR'])"
    )
    used, told = in_a_program(code, tmp_path).split()
    assert Path(used).parent == Path(told) == tmp_path / "state" / "tmp"
    assert mode(tmp_path / "state" / "tmp") == 0o700


def test_a_notebook_keeps_its_umask_and_its_temporary_folder(tmp_path, umask, monkeypatch):
    monkeypatch.setattr(private, "_own_process", [])
    monkeypatch.setenv("TMPDIR", "before")
    private.use_temporary_folder(tmp_path)
    assert os.environ["TMPDIR"] == "before"
    code = "import os; m = os.umask(0); os.umask(m); import fedrad; assert os.umask(m) == m"
    subprocess.run([sys.executable, "-c", code], check=True)


# Folders


@pytest.mark.usefixtures("umask")
def test_a_folder_is_made_for_the_user_alone_and_so_are_those_above_it(tmp_path):
    make_folder(tmp_path / "results" / "new" / "experiment")
    assert {mode(folder) for folder in tmp_path.rglob("*")} == {0o700}


def test_a_folder_that_exists_stays_as_it_is_and_a_file_is_none(tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours").chmod(0o755)
    make_folder(tmp_path / "ours")
    assert mode(tmp_path / "ours") == 0o755
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "state" / "images")
    return tmp_path / "state"


@pytest.mark.parametrize("bits", [0o001, 0o010, 0o040, 0o705, 0o750, 0o777])
def test_a_loose_folder_is_refused_with_the_command_that_mends_it(folder, bits):
    assert privacy_fault(folder) is None
    folder.chmod(0o700 | bits)
    fault = privacy_fault(folder)
    assert fault is not None
    command = fault.partition("then: ")[2]
    assert command == f"chmod -R go= {folder}"
    subprocess.run(command.split(), check=True)
    assert privacy_fault(folder, entries=True) is None


def test_what_lies_in_a_folder_that_was_open_is_looked_at_too(folder):
    file = folder / "check.html"
    file.touch()
    file.chmod(0o644)
    assert privacy_fault(folder) is None
    assert str(file) in str(privacy_fault(folder, entries=True))


def test_images_on_another_disk_behind_a_link_are_looked_at(folder, tmp_path):
    make_folder(tmp_path / "large")
    (folder / "store").symlink_to(tmp_path / "large")
    (folder / "gone").symlink_to(tmp_path / "nothing")
    assert privacy_fault(folder, entries=True) is None
    (tmp_path / "large").chmod(0o755)
    assert "store" in str(privacy_fault(folder, entries=True))


def test_a_folder_that_is_not_there_yet_has_no_fault(tmp_path):
    assert privacy_fault(tmp_path / "new") is None


def test_a_folder_of_another_user_is_named(folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert "belongs to another user" in str(privacy_fault(folder))


@pytest.mark.parametrize("refuses", [True, False])
def test_a_mounted_windows_share_is_named(folder, monkeypatch, refuses):
    """Such a mount gives every file the same mode; chmod has no effect there, or is refused."""

    def chmod(path: Path, mode: int) -> None:
        if refuses:
            raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", chmod)
    fault = str(privacy_fault(folder, advice=" (`state` in site.toml)"))
    assert "keeps no permissions (a mounted Windows share?)" in fault
    assert fault.endswith("on a disk of this machine (`state` in site.toml)")
    assert list(folder.iterdir()) == [folder / "images"]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("mkfs.vfat") is None or os.geteuid() != 0, reason="needs mkfs.vfat and root"
)
def test_a_file_system_without_permissions_is_named(tmp_path):
    image, mounted = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(2**20)
    mounted.mkdir()
    subprocess.run(["mkfs.vfat", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, mounted], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        assert "keeps no permissions" in str(privacy_fault(mounted))
    finally:
        subprocess.run(["umount", mounted], check=True)


# What is meant for others


@pytest.mark.usefixtures("umask")
def test_an_export_is_opened_to_others_with_all_that_is_in_it(folder):
    (folder / "images" / "model").touch()
    set_privacy(folder, private=False)
    found = {path.name: mode(path) for path in (folder, *folder.rglob("*"))}
    assert found == {"state": 0o755, "images": 0o755, "model": 0o644}
    set_privacy(folder, private=True)
    assert {mode(path) for path in folder.rglob("*")} == {0o600, 0o700}


def test_a_link_in_an_export_does_not_open_what_it_names(folder, tmp_path):
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    (folder / "link").symlink_to(secret)
    set_privacy(folder, private=False)
    assert mode(secret) == 0o600


@pytest.mark.parametrize("mode_above", [0o777, 0o757])
def test_a_folder_that_others_can_replace_is_refused_although_it_is_closed(tmp_path, mode_above):
    shared = tmp_path / "shared"
    folder = shared / "state"
    folder.mkdir(parents=True, mode=0o700)
    assert privacy_fault(folder, above=True) is None
    shared.chmod(mode_above)
    assert str(shared) in str(privacy_fault(folder, above=True))
    shared.chmod(mode_above | 0o1000)  # as /tmp
    assert privacy_fault(folder, above=True) is None


def test_a_link_does_not_hide_where_a_folder_can_be_replaced(tmp_path):
    for name in ("shared", "real"):
        (tmp_path / name).mkdir()
    (tmp_path / "real" / "state").mkdir(mode=0o700)
    (tmp_path / "shared" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "shared").chmod(0o777)
    assert "shared" in str(privacy_fault(tmp_path / "shared" / "link" / "state", above=True))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_a_folder_in_a_folder_of_another_user_is_refused(tmp_path):
    folder = tmp_path / "theirs" / "state"
    folder.mkdir(parents=True, mode=0o700)
    os.chown(tmp_path / "theirs", 65534, 65534)
    assert "put another folder in the place" in str(privacy_fault(folder, above=True))
