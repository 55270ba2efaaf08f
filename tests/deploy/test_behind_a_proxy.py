"""The commands of both sides where the environment names a proxy, as in most hospitals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.hospital import EXPERIMENT, write_site
from support.proxy import proxy

from fedrad.exchange.invitation import Invitation, JoinRequest
from fedrad.system.ports import free_port

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
HOST = "coordinator.invalid"
"""A name that only the proxy knows."""
NOBODY = "http://127.0.0.1:9"
ODD = {
    "a proxy where nobody is": {"HTTPS_PROXY": NOBODY, "https_proxy": NOBODY, "HTTP_PROXY": NOBODY},
    "SOCKS": {"ALL_PROXY": "socks5://127.0.0.1:9", "grpc_proxy": NOBODY, "no_grpc_proxy": "x"},
    "no URL": {"https_proxy": "http://proxy:port", "NO_PROXY": "::1/128,[::1],fd00::/8"},
}


def environment(home: Path, variables: dict[str, str]) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    own = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "OMP_NUM_THREADS": "1"}
    return kept | own | {"COLUMNS": "300"} | variables


def do(home: Path, variables: dict[str, str], *command: str, status: int = 0) -> str:
    """Run a command to its end. Returns what it printed."""
    ended = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=home,
        env=environment(home, variables),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


class Running:
    """A command that stays, and what it has printed so far."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def wait_for(self, words: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while words not in self.out.read_text():
            assert time.monotonic() < end, f"never printed {words!r}:\n{self.out.read_text()}"
            time.sleep(0.2)


@contextmanager
def running(home: Path, variables: dict[str, str], *command: str) -> Iterator[Running]:
    out = home / f"{command[0]}-{command[1]}.out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=home,
            env=environment(home, variables),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield Running(out)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


@pytest.mark.parametrize("kind", ODD)
def test_a_coordinator_behind_any_proxy_serves_and_lists_its_sites(tmp_path, kind):
    address = f"localhost:{free_port()}"
    with running(tmp_path, ODD[kind], "fedrad", "serve", "--address", address) as serve:
        serve.wait_for(f"hospitals reach this coordinator at {address}")
        do(tmp_path, ODD[kind], "fedrad", "invite", "hospital-a")
        shown = do(tmp_path, ODD[kind], "fedrad", "sites")
    assert "hospital-a" in shown
    assert "not running" not in shown


@pytest.mark.parametrize("kind", ODD)
def test_a_simulation_in_flowers_engine_runs_behind_any_proxy(tmp_path, kind):
    sites = [f"--site={name}={write_site(tmp_path / name, 20, seed=ord(name))}" for name in "ab"]
    (tmp_path / "experiment.toml").write_text(EXPERIMENT)
    given = ("experiment.toml", *sites, "--out", "results", "--engine", "flower")
    do(tmp_path, ODD[kind], "fedrad", "simulate", *given)
    assert (tmp_path / "results" / "report.html").is_file()


def test_a_hospital_takes_part_through_a_proxy_that_first_refuses_and_fails_meanwhile(tmp_path):
    port = free_port()
    here, there = tmp_path / "coordinator", tmp_path / "hospital"
    here.mkdir()
    folder = write_site(there / "a", 40, policy='columns = ["label"]\n')
    text = EXPERIMENT.replace("rounds = 2", 'rounds = 4\nquorum = 1\nsites = ["a"]')
    text = text.replace("batch_size = 8", "batch_size = 8\nlocal_epochs = 20")
    for home in (here, there):
        (home / "experiment.toml").write_text(text)
    behind = ODD["a proxy where nobody is"]
    with (
        proxy("403", user="me:secret") as way,
        running(
            *(here, behind, "fedrad", "serve", "--address", f"{HOST}:{port}"),
            *("--listen", "127.0.0.1"),
        ) as serve,
    ):
        serve.wait_for("hospitals reach this coordinator")
        do(here, behind, "fedrad", "invite", "a")
        letter = (here / "a.invitation").rename(there / "a.invitation")
        spoken = Invitation.read(letter).fingerprint()
        do(there, {}, "fedrad-site", "join", letter.name, str(folder), "--fingerprint", spoken)
        letter = (there / "a.request").rename(here / "a.request")
        spoken = JoinRequest.read(letter).fingerprint()
        do(here, behind, "fedrad", "sites", "admit", letter.name, "--fingerprint", spoken)
        do(there, {}, "fedrad-site", "approve", str(folder), "--file", "experiment.toml", "--yes")
        url = f"127.0.0.1:{way.port}"
        through = {"HTTPS_PROXY": f"http://me:secret@{url}", "NO_PROXY": "10.0.0.0/8,*.de"}
        with running(there, through, "fedrad-site", "start", str(folder)) as start:
            start.wait_for("NO_PROXY: '*.de' is not understood")
            start.wait_for(f"through HTTPS_PROXY=http://{url} (its user is left out)")
            start.wait_for(f"no way to the coordinator: HTTPS_PROXY=http://{url} ")
            start.wait_for(f"answers 403 Forbidden to CONNECT {HOST}:{port}: ask for ")
            way.kind = "works"
            start.wait_for("connected; waiting")
            command = ("fedrad", "run", "experiment.toml", "--out", "results")
            with running(here, behind, *command) as run:
                run.wait_for("Round 2 of 4", 120)
                way.kind = "502"
                way.cut()
                start.wait_for("answers 502 Bad Gateway", 60)
                way.kind = "works"
                run.wait_for("report.html", 300)
        said = start.out.read_text() + "".join(
            file.read_text(errors="replace") for file in there.rglob("*.log*")
        )
    assert "started again" not in start.out.read_text(), "the node lives through it"
    assert set(way.asked) == {f"{HOST}:{port}"}
    assert "secret" not in said
