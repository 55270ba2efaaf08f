"""All internal parts of Flower are in one table, and a part that moved is one error."""

import ast
import importlib.metadata
import inspect
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import flwr
import httpx
import pytest
from support.paths import TESTS

from fedrad.deploy.coordinator.folder import Coordinator
from fedrad.flower import internals, log_lines
from fedrad.flower.internals import PARTS, TESTED, FlowerMovedError, FlowerPart, check_source
from fedrad.flower.local_socket import listen_at

ROOMS = ("client", "deploy", "exchange", "flower", "models", "server", "stats", "system")
PUBLIC = ("flwr.app", "flwr.clientapp", "flwr.serverapp")
REPOSITORY = TESTS.parent
MOVED = re.compile(
    rf"flwr \d\S*: flwr\.\S+ (has no|cannot be imported) .*tested with flwr {TESTED}: "
    r"install the versions of its lock file"
)


def modules() -> list[Path]:
    return [file for room in ROOMS for file in (REPOSITORY / room).rglob("*.py")]


@pytest.mark.parametrize("name", PARTS)
def test_each_part_is_in_the_installed_flower_as_fedrad_relies_on(name):
    assert getattr(internals, name) is not None


@pytest.mark.parametrize(
    "part", [part for line in log_lines.LINES for part in line.printed_by], ids=lambda p: p.lines[0]
)
def test_each_line_of_the_log_that_fedrad_reads_is_printed_by_the_installed_flower(part):
    check_source(part)


def test_the_table_is_for_the_version_that_is_pinned():
    assert importlib.metadata.version("flwr").startswith(f"{TESTED}.")
    assert f"flwr[simulation]=={TESTED}.*" in (REPOSITORY / "pyproject.toml").read_text()


def test_no_other_module_names_what_is_private_to_flower():
    """Neither as an import nor as a string from which one could be made."""
    for file in modules():
        if file.name in {"internals.py", "log_lines.py"} and file.parent.name == "flower":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = re.findall(r"\bflwr\.\w+", node.value)
            else:
                continue
            for name in names:
                if name.split(".")[0] == "flwr":
                    assert ".".join(name.split(".")[:2]) in PUBLIC, f"{file}:{node.lineno}: {name}"


def test_the_type_checker_knows_the_parts_that_are_used_and_no_others():
    tree = ast.parse(inspect.getsource(internals))
    typed = {
        (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        for alias in node.names
    }
    table = {(part.module, part.name) for part in PARTS.values()}
    assert typed <= table
    used = {
        alias.name
        for file in modules()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("internals")
        for alias in node.names
    }
    assert {name for _, name in typed} == used & PARTS.keys()


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        (FlowerPart("flwr.supercore.gone", "Run"), "flwr.supercore.gone cannot be imported"),
        (FlowerPart("flwr.supercore.run", "Gone"), "flwr.supercore.run has no Gone"),
        (
            FlowerPart("flwr.supercore.run", "Run", ("gone()",)),
            "flwr.supercore.run.Run has no line",
        ),
        (FlowerPart("flwr.supercore.run", "Run", (), ("gone",)), "flwr.supercore.run has no gone"),
    ],
)
def test_a_part_that_moved_is_named_with_both_versions_and_what_to_do(monkeypatch, part, fault):
    monkeypatch.setitem(PARTS, "Run", part)
    with pytest.raises(FlowerMovedError) as error:
        _ = internals.Run
    assert MOVED.search(str(error.value))
    assert f"flwr {importlib.metadata.version('flwr')}: {fault}" in str(error.value)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (log_lines.CONNECTED, "INFO :      SuperNode ID: 123"),
        (log_lines.NOT_ADMITTED, "[code: 2004] Node activation failed."),
        (log_lines.NOT_ADMITTED, None),
        (log_lines.OTHER_CERTIFICATE, "ERROR :     SSL/TLS handshake error detected."),
        (log_lines.CONNECTED_AGAIN, "Connection successful after 3.00 seconds and 2 tries."),
        (log_lines.MESSAGE_RECEIVED, "INFO :      Received successfully"),
        (log_lines.ANSWER_SENT, "INFO :      Sent successfully"),
        (log_lines.MESSAGE_LOST, "ERROR :     Failed to send message 7: timeout"),
        (log_lines.RUN_HAS_ENDED, "Run ID 7 is not in `RUNNING` status. Ignoring message 8."),
    ],
)
def test_a_line_of_a_nodes_log_is_of_its_kind_and_of_no_other(kind, line):
    if line is None:  # httpx words what the SuperLink answers to a node that it does not know
        answer = httpx.Response(401, request=httpx.Request("POST", "https://localhost/v1/fleet/x"))
        with pytest.raises(httpx.HTTPStatusError) as error:
            answer.raise_for_status()
        line = str(error.value)
    assert [other for other in log_lines.LINES if other.matches(line)] == [kind]


def test_fedrads_lines_in_the_log_of_a_run_are_separated_from_flowers():
    record = logging.LogRecord("fedrad.server", logging.WARNING, "", 0, "a is %s", ("late",), None)
    line = log_lines.run_log_formatter().format(record)
    assert log_lines.run_log_line(line) == (logging.WARNING, "a is late")
    assert log_lines.run_log_line("INFO :      Starting logstream for run_id `1`") is None


def test_a_log_line_that_moved_is_a_sentence_for_the_sites_log(monkeypatch):
    assert log_lines.missing_lines() == []
    moved = log_lines.LogLine("x", (FlowerPart("flwr.supercore.run", "Run", ("print('x')",)),))
    monkeypatch.setattr(log_lines, "LINES", (moved,))
    (fault,) = log_lines.missing_lines()
    assert MOVED.search(fault)


@pytest.fixture(scope="module")
def other_flower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Flower in which one part of each module that fedrad uses has another name."""
    folder = tmp_path_factory.mktemp("flower")
    shutil.copytree(Path(flwr.__file__).parent, folder / "flwr")
    for module, name in (
        ("supernode/runtime/run_clientapp.py", "push_task_output"),
        ("supernode/start_client_internal.py", "_push_messages"),
        ("superlink/main.py", "create_app"),
        ("superlink/runtime/run_serverapp.py", "run_serverapp"),
        ("superlink/routers/fleet/node_auth.py", "authenticate_node"),
        ("**/*.py", "CliClientHttpInterceptor"),
    ):
        for file in (folder / "flwr").glob(module):
            text = file.read_text()
            file.write_text(re.sub(rf"\b{name}\b", f"{name}_moved", text))
    return folder


def run(flower: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(flower)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_command_reports_it_without_a_traceback(other_flower, tmp_path):
    """`fedrad sites` where a SuperLink seems to run: only then does it import Flower's client."""
    here = Coordinator(tmp_path / "coordinator")
    here.set_up("localhost:8000", listen="127.0.0.1", names=[], own=None)
    command = "from fedrad.deploy.commands.main import main; main()"
    with listen_at(here.socket) as listener:
        listener.listen()
        ended = run(other_flower, "-c", command, "sites", "--coordinator", str(here.folder))
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert MOVED.search(" ".join(ended.stderr.split()))


@pytest.mark.parametrize(
    ("program", "part"),
    [
        (["-m", "fedrad.client.node.executor", "--port", "1"], "push_task_output"),
        (["-m", "fedrad.client.node.supernode"], "_push_messages"),
        (["-m", "fedrad.deploy.coordinator.superlink"], "create_app"),
        (["-c", "import fedrad.client.preflight.route"], "authenticate_node"),
        (["-m", "fedrad.flower.server_executor"], "run_serverapp"),
        (["-c", "import fedrad.flower.control"], "CliClientHttpInterceptor"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_every_program_reports_a_part_that_moved_in_the_same_way(other_flower, program, part):
    ended = run(other_flower, *program)
    assert ended.returncode != 0
    text = log_lines.moved_part(ended.stderr.splitlines()[-1])
    assert text, ended.stderr
    assert MOVED.fullmatch(text.partition(" (`pip")[0])
    assert part in text
