"""A command ends with a sentence and a status, whatever the terminal, the user or the folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

NAMELESS = ["HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "USER", "LOGNAME"]
PROGRAM = """
import os, sys
from fedrad.system.errors import UserError
from fedrad.system.program import run_program
def commands():
    {code}
run_program(commands)
"""


def ends(code: str, shell: str = "", **environment: str | None) -> subprocess.CompletedProcess[str]:
    """How a program ends whose commands are `code`. `shell`: what follows it on the command line.
    An environment variable that is None is not set."""
    given = {k: v for k, v in (os.environ | environment).items() if v is not None}
    command = ["bash", "-c", f'set -o pipefail; "$@" {shell}', "-", sys.executable, "-c"]
    return subprocess.run(
        [*command, PROGRAM.format(code=code)],
        env=given,
        capture_output=True,
        text=True,
        encoding="latin-1",
        check=False,
    )


@pytest.mark.parametrize("code", ["print('x' * 9)", "print('x' * 99999)", "sys.exit(1)"])
def test_a_reader_that_went_away_ends_a_command_in_silence(code):
    ended = ends(code, "| true" if "99999" in code else "| sleep 0")
    assert ended.stderr == ""
    assert ended.returncode in ({141} if "99999" in code else {0, 1, 141})


def test_output_that_finds_no_room_is_named():
    for code in ("print(9)", "print('x' * 99999)"):
        ended = ends(code, ">/dev/full")
        assert ended.stderr == "standard output: No space left on device\n"
        assert ended.returncode == 2


def test_a_stream_that_was_closed_gives_its_number_to_no_file(tmp_path):
    file = tmp_path / "written"
    code = f"open({str(file)!r}, 'w').close(); print('shown'); os.system('echo child')"
    ended = ends(code, ">&- 2>&- <&-")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert file.read_text() == ""


@pytest.mark.parametrize("columns", ["0", "1", "20"])
def test_a_terminal_without_a_sensible_width_shows_every_cell(columns):
    code = (
        "from rich.table import Table; from fedrad.system.terminal import PlainConsole; "
        "table = Table('site', 'round', 'loss', 'answer'); "
        "table.add_row('hospital-a', '17', '0.421', 'accepted'); PlainConsole().print(table)"
    )
    shown = ends(code, COLUMNS=columns).stdout
    assert all(cell in shown for cell in ("hospital-a", "17", "0.421", "accepted"))


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"PYTHONIOENCODING": "ascii"}, r"M\xfcller caf\xe9"),
        ({"PYTHONIOENCODING": "latin-1"}, "M\xfcller caf\\xe9"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, r"M\xfcller caf\xe9"),
    ],
)
def test_a_terminal_that_is_not_utf8_shows_all_names(environment, shown):
    ended = ends(r"print('M\xfcller', os.fsdecode(b'caf\xe9'))", **environment)
    assert (ended.stdout, ended.stderr) == (f"{shown}\n", "")


def test_names_are_looked_up_as_utf8_in_any_locale(tmp_path):
    (tmp_path / "M\xfcller \u4e2d.png").touch()
    code = f"print(os.path.exists({str(tmp_path)!r} + '/M\\xfcller \\u4e2d.png'))"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert ends(code, **locale).stdout == "True\n"


def test_what_nobody_foresaw_is_one_sentence_and_a_private_file(tmp_path):
    ended = ends("secret = 'CANARY'; {}['patient 7']", XDG_STATE_HOME=str(tmp_path))
    kept = tmp_path / "fedrad" / "last-error.txt"
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "KeyError" in ended.stderr
    assert str(kept) in ended.stderr
    assert "patient 7" not in ended.stderr
    assert "patient 7" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_what_nobody_foresaw_is_shown_on_demand_and_where_it_cannot_be_kept():
    assert "KeyError: 7" in ends("{}[7]", FEDRAD_DEBUG="1").stderr
    ended = ends("{}[7]", XDG_STATE_HOME="/proc/nothing")
    assert "FEDRAD_DEBUG=1" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("open('/nonexistent/x')", "/nonexistent/x: No such file or directory\n"),
        (r"open(b'/nonexistent/\xe9')", "/nonexistent/\\xe9: No such file or directory\n"),
        ("raise MemoryError", "there is not enough memory for this"),
        (
            "raise ImportError('x.so: failed to map segment from shared object')",
            "there is not enough memory for this",
        ),
        ("raise UserError('[red]one [/]')", "[red]one [/]\n"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(code, sentence):
    ended = ends(code)
    assert ended.stderr.startswith(sentence)
    assert ended.returncode == 2


def test_a_command_in_a_folder_that_was_deleted_does_nothing(tmp_path):
    ended = ends("print('begun')", f'&& cd {tmp_path} && rmdir {tmp_path} && "$@"')
    assert ended.stdout == "begun\n"
    assert ended.stderr.startswith("the current folder is not there any more")
    assert ended.returncode == 2


def test_a_current_folder_that_was_deleted_is_named(tmp_path):
    code = f"os.chdir({str(tmp_path)!r}); os.rmdir({str(tmp_path)!r}); os.getcwd()"
    assert ends(code).stderr.startswith("the current folder is not there any more")


@pytest.mark.slow
def test_a_user_without_name_and_home_is_told_to_name_a_state_folder(tmp_path):
    """As `docker run --user 12345`; needs user namespaces."""
    (tmp_path / "site.toml").write_text('name = "a"\n')
    tmp_path.chmod(0o700)
    unnamed = ["unshare", "-U", "--map-user=12345", "--map-group=12345"]
    if subprocess.run([*unnamed, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    environment = {k: v for k, v in os.environ.items() if k not in NAMELESS}
    script = Path(sys.executable).parent / "fedrad-site"

    def accept() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*unnamed, str(script), "policy", "accept", str(tmp_path), "--yes"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    ended = accept()
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert all(word in ended.stderr for word in ("`state` in site.toml", "XDG_STATE_HOME", "HOME"))
    (tmp_path / "site.toml").write_text('name = "a"\nstate = "state"\n')
    ended = accept()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "accepted by" not in ended.stderr


@pytest.mark.parametrize("program", ["client", "deploy"])
def test_an_interrupt_while_a_program_begins_shows_no_traceback(program):
    """The signal comes while `typer` is imported."""
    code = (
        "import os, signal, sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        f"import fedrad.{program}.commands.main\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
