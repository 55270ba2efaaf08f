"""Flower's processes on this machine: started, followed and completely ended. Loopback only.

Each process has its own `FLWR_HOME` in one temporary folder, by which all of them are recognised
(`process_tree`).
"""

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from fedrad.system.no_telemetry import NO_TELEMETRY
from fedrad.system.ports import free_port

from .bundles import BUNDLE
from .process_tree import end_processes_of, start_watchdog

START_SECONDS = 120.0
NOWHERE = "http://127.0.0.1:9"
"""Address of a proxy that does not exist: Ray would ask the network for a cloud otherwise."""
STOCK_SUPERNODE = ("flower-supernode",)
"""Command of Flower's own node."""

FlowerSettings = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class SuperLinkConnection:
    """How to reach a SuperLink.

    Attributes
    ----------
    address
        `HOST:PORT`.
    root_certificates
        File with the certificate authority (PEM) of the SuperLink; None: no TLS, which is allowed
        on this machine only.
    members
        File with the list of members, if the SuperLink is run by `fedrad serve`.
    """

    address: str
    root_certificates: Path | None = None
    members: Path | None = None

    def toml(self) -> str:
        """The connection in Flower's configuration format."""
        if self.root_certificates is None:
            return _toml({"address": self.address, "insecure": True}) + "\n"
        certificates = str(self.root_certificates.resolve())
        return _toml({"address": self.address, "root-certificates": certificates}) + "\n"


def flower_environment(further: Mapping[str, str]) -> dict[str, str]:
    """Environment of a Flower process that can only connect to this machine."""
    scripts = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    return {
        **os.environ,
        **further,
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost,::1"),
        "PATH": scripts,  # Flower starts its own commands by name
        "PYTHONUNBUFFERED": "1",
    }


class FlowerError(Exception):
    """A Flower process did not start, or Flower refused a run; the text has its last log lines."""


class FlowerProcesses:
    """Flower's processes in a temporary folder: a SuperLink, SuperNodes, runs.

    Made by `own_flower_processes`. A SuperLink that is started here has no TLS and is reached over
    loopback only.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], connection: "SuperLinkConnection | None"
    ) -> None:
        self.folder = folder
        self.connection = connection or SuperLinkConnection(f"127.0.0.1:{free_port()}")
        self.address = self.connection.address
        self._environment = flower_environment(
            {
                **NO_TELEMETRY,
                **environment,
                "RAY_TMPDIR": str(folder),
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray listens on loopback only
            }
        )
        self._watchdog = start_watchdog(folder)
        self._children: list[subprocess.Popen[bytes]] = []

    def start_superlink(self, *options: str) -> "subprocess.Popen[bytes]":
        """Start the SuperLink and wait until it answers. Raises FlowerError."""
        host, port = self.address.split(":")
        superlink = self._start(
            ["flower-superlink"],
            "superlink",
            "--insecure",
            "--isolation",
            "subprocess",
            "--disable-runtime-dependency-installation",
            "--host",
            host,
            "--port",
            port,
            *options,
        )
        end = time.monotonic() + START_SECONDS
        while not _answers(f"http://{self.address}/health"):
            if superlink.poll() is not None or time.monotonic() > end:
                raise FlowerError(
                    f"Flower's SuperLink did not start:\n{self.last_lines('superlink')}"
                )
            time.sleep(0.2)
        return superlink

    def start_supernode(
        self, name: str, node_config: Mapping[str, str], command: Sequence[str]
    ) -> "subprocess.Popen[bytes]":
        """Start a site's node, which connects to the SuperLink by itself.

        Parameters
        ----------
        name
            Name of its folder and its log.
        node_config
            Configuration that Flower passes to the app at the site.
        command
            A program with the arguments of `flower-supernode`, such as STOCK_SUPERNODE.
        """
        return self._start(
            command,
            name,
            "--insecure",
            "--superlink",
            self.address,
            # fedrad's node has a socket in its FLWR_HOME instead
            *(("--port", str(free_port())) if command == STOCK_SUPERNODE else ()),
            "--node-config",
            _toml(node_config, " "),
        )

    def run(
        self,
        run_config: FlowerSettings,
        simulation: FlowerSettings | None = None,
        *,
        bundle: Path = BUNDLE.parent,
    ) -> Iterator[str]:
        """Run a bundle until it has ended.

        Parameters
        ----------
        run_config
            Configuration of the run, for the apps.
        simulation
            Flower's settings of a simulated federation; None: over real nodes.
        bundle
            Folder of the bundle.

        Yields
        ------
        str
            The lines of the run's log.

        Raises
        ------
        FlowerError
            If Flower refuses the run.
        """
        home = self.folder / "run"
        app = home / "app"
        shutil.rmtree(app, ignore_errors=True)
        shutil.copytree(bundle, app)
        (home / "run.toml").write_text(_toml(run_config), encoding="utf-8")
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "own"\n[superlink.own]\n' + self.connection.toml(),
            encoding="utf-8",
        )
        options = ["--federation-config", _toml(simulation, " ")] if simulation else []
        process = self._start(
            ["flwr", "run"],
            "run",
            str(app),
            "own",
            "--stream",
            "--run-config",
            str(home / "run.toml"),
            *options,
        )
        with (self.folder / "run.log").open(encoding="utf-8", errors="replace") as log:
            ended, partial = False, ""
            while True:
                partial += log.readline()
                if partial.endswith("\n"):
                    yield partial.rstrip("\n")
                    partial = ""
                elif ended:
                    break
                else:
                    ended = process.poll() is not None
                    time.sleep(0 if ended else 0.2)
        if process.returncode != 0:
            raise FlowerError(f"`flwr run` failed:\n{self.last_lines('run')}")

    def last_lines(self, name: str, lines: int = 20) -> str:
        """The last lines of the log of a process."""
        text = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _start(
        self, command: Sequence[str], name: str, *arguments: str
    ) -> "subprocess.Popen[bytes]":
        home = self.folder / name
        home.mkdir(exist_ok=True, mode=0o700)
        program, *further = command
        if "/" not in program:
            program = f"{sysconfig.get_path('scripts')}/{program}"
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [program, *further, *arguments],
                env={**self._environment, "FLWR_HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only this process, which ends the others
            )
        self._children.append(child)
        return child

    def end(self) -> None:
        """End all processes; the watchdog last, in case this method is interrupted."""
        for child in self._children:
            child.terminate()  # without /proc, Flower's commands end their own children
        end_processes_of(self.folder)
        for child in self._children:
            child.wait()
        self._watchdog.terminate()
        self._watchdog.wait()


@contextmanager
def own_flower_processes(
    environment: Mapping[str, str], connection: SuperLinkConnection | None = None
) -> Iterator[FlowerProcesses]:
    """Flower's processes in a temporary folder, all removed at the end, also after SIGTERM.

    The folder is made in `RAY_TMPDIR` or `TMPDIR`; Ray needs a path below 40 characters.

    Parameters
    ----------
    environment
        Further environment variables of the processes.
    connection
        An existing SuperLink, so that only runs are started; None: a new SuperLink.

    Yields
    ------
    FlowerProcesses
        No process has been started yet.
    """
    with (
        _terminated_as_interrupted(),
        TemporaryDirectory(
            prefix="fedrad-", dir=os.environ.get("RAY_TMPDIR"), ignore_cleanup_errors=True
        ) as folder,
    ):
        flower = FlowerProcesses(Path(folder).resolve(), environment, connection)
        try:
            yield flower
        finally:
            flower.end()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that `finally` clauses run."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _toml(values: FlowerSettings, separator: str = "\n") -> str:
    """Flat TOML for a file or for Flower's command line; a JSON string is a TOML string."""
    return separator.join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
