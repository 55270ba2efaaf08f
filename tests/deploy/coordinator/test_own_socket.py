"""Who can speak to a coordinator's SuperLink: its own user, and what runs there is installed."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from support.hospital import EXPERIMENT
from support.processes import wait_until

from fedrad.deploy.coordinator.folder import Coordinator
from fedrad.flower.bundles import BUNDLE, MORE
from fedrad.flower.control import Control, FlowerError
from fedrad.flower.process_tree import processes_of
from fedrad.flower.processes import FlowerProcesses, own_flower_processes
from fedrad.system.ports import free_port, listens_at

pytestmark = pytest.mark.slow


class Serving:
    """`fedrad serve`, and the processes below it."""

    def __init__(self, root: Path) -> None:
        self.port = free_port()
        self.here = Coordinator(root / "coordinator")
        self.log = root / "serve.log"
        self.process = self.start()
        wait_until(lambda: "hospitals reach this coordinator" in self.log.read_text(), 200)
        self.family = [self.process.pid, *processes_of(self.here.folder)]

    def start(self) -> "subprocess.Popen[bytes]":
        program = "from fedrad.deploy.commands.main import main; main()"
        given = {
            "address": f"localhost:{self.port}",
            "listen": "127.0.0.1",
            "coordinator": self.here.folder,
        }
        options = [f"--{name}={value}" for name, value in given.items()]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", program, "serve", *options],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = Serving(tmp_path_factory.mktemp("served"))
    yield serving
    serving.process.send_signal(signal.SIGINT)
    serving.process.wait(timeout=60)


def ports_of(processes: list[int]) -> set[int]:
    """Ports at which processes listen, at any address."""
    sockets = set[str]()
    for pid in processes:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(descriptor))
            except OSError:
                continue
    found = set[int]()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def test_the_only_port_is_that_of_the_hospitals(serving):
    assert len(serving.family) >= 3, "serve, SuperLink, executor"
    assert ports_of(serving.family) == {serving.port}


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user")
def test_another_user_with_the_certificate_and_all_paths_cannot_connect(serving):
    """Even where the folders above are open to all."""
    (folder := serving.here.folder).parent.chmod(0o755)
    for other in (folder.parent.parent, folder.parent.parent.parent):
        other.chmod(0o755)
    assert listens_at(serving.here.socket)
    program = f"import socket; socket.socket(socket.AF_UNIX).connect({str(serving.here.socket)!r})"
    asked = subprocess.run(
        ["runuser", "-u", "nobody", "--", "/usr/bin/env", "python3", "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError" in asked.stderr


def test_no_command_line_holds_a_secret(serving):
    for pid in serving.family:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"PRIVATE" not in command
        assert b"token" not in command


def test_a_coordinator_that_was_killed_leaves_no_process_and_can_be_started_again(serving):
    again = serving.start()
    assert again.wait(timeout=100) == 2
    assert f"(process {serving.process.pid}, since " in serving.log.read_text()
    serving.process.kill()
    serving.process.wait()
    wait_until(lambda: processes_of(serving.here.folder) == set(), 10)
    serving.log.write_text("")
    serving.process = serving.start()
    wait_until(lambda: "hospitals reach this coordinator" in serving.log.read_text(), 200)


# Code in a bundle


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose ServerApp writes a file `ran` beside it."""
    bundle = tmp_path_factory.mktemp("hostile") / "bundle"
    bundle.mkdir()
    shutil.copy(BUNDLE, bundle)
    ran = str(bundle.parent / "ran")
    (bundle / "evil.py").write_text(f"open({ran!r}, 'w').write('ran')\napp = None\n")
    text = (bundle / "pyproject.toml").read_text()
    (bundle / "pyproject.toml").write_text(text.replace("fedrad.server.app:app", "evil:app"))
    return bundle


UNGUARDED = """
    import sys
    from fedrad.flower import superlink
    superlink.OwnInterface = lambda app, nodes: app
    superlink.run_superlink()
"""
"""A SuperLink that takes every request: what is left is the check before a bundle is unpacked."""


@pytest.mark.parametrize("guarded", [True, False])
def test_no_line_of_a_foreign_bundle_runs_even_for_the_coordinators_own_user(
    hostile, guarded, monkeypatch
):
    if not guarded:
        program = (sys.executable, "-c", textwrap.dedent(UNGUARDED))
        monkeypatch.setattr("fedrad.flower.processes.PROGRAM", program)
    content = build_fab_from_disk(hostile)
    monkeypatch.setattr("fedrad.flower.control.build_fab_from_disk", lambda folder: content)
    with own_flower_processes({"OMP_NUM_THREADS": "1"}) as flower:
        flower.start_superlink()
        if guarded:
            with pytest.raises(FlowerError, match=MORE):
                list(flower.run({"experiment": EXPERIMENT}))
        else:
            assert MORE in "\n".join(flower.run({"experiment": EXPERIMENT}))
        time.sleep(3)
        assert not list(flower.folder.rglob("evil.py"))
    assert not (hostile.parent / "ran").exists()


# Ray

WITHOUT_TOKEN = """
    import sys
    from ray._raylet import GcsClient
    client = GcsClient(address=f"127.0.0.1:{sys.argv[1]}")
    print(client.internal_kv_keys(b"", None, 10))
"""


def test_the_ports_of_ray_are_closed_to_who_does_not_have_the_key_of_this_run(tmp_path):
    """Whoever reached one could run code: Ray takes functions over them."""
    with own_flower_processes({"OMP_NUM_THREADS": "1"}) as flower:
        server = ray_server(flower)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        asked = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(WITHOUT_TOKEN), str(server)],
            capture_output=True,
            text=True,
            check=False,
            env=environment | {"HOME": str(tmp_path)},
        )
    assert "Authentication token is missing or incorrect" in asked.stderr
    assert asked.returncode != 0


def ray_server(flower: FlowerProcesses) -> int:
    """Start Ray as a simulation does, in the environment of Flower's processes. Returns a port."""
    log = flower.folder / "ray.log"
    program = "import ray, time; print(ray.init().address_info['gcs_address'], flush=True)"
    flower.start([sys.executable, "-c", f"{program}; time.sleep(300)"], "ray")
    wait_until(lambda: any(line.startswith("127.") for line in log.read_text().splitlines()), 200)
    (address,) = (line for line in log.read_text().splitlines() if line.startswith("127."))
    return int(address.rpartition(":")[2])


def test_the_socket_of_a_superlink_that_ended_is_said_to_be_closed(tmp_path):
    with pytest.raises(FlowerError, match="does not answer"):
        list(Control(tmp_path / "superlink.sock").run({"experiment": EXPERIMENT}))
