"""Flower's own processes on this machine: started, followed and ended by us, with nothing left.

Each has an own `FLWR_HOME` in one temporary folder. That is how all of them are found again,
whatever sessions and groups Flower and Ray make for their children. Loopback only.
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
from .process_tree import end_processes_of, start_keeper

START_SECONDS = 120.0
NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: even without usage reports, Ray asks the network for its cloud."""
STOCK_SUPERNODE = ("flower-supernode",)
"""Command of Flower's own node."""

Settings = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Connection:
    """A SuperLink: `HOST:PORT`, and the certificate authority that vouches for it; None: no TLS,
    on this machine only. `members`: who may take part there, where the SuperLink is fedrad's."""

    address: str
    root_certificates: Path | None = None
    members: Path | None = None

    def toml(self) -> str:
        """As Flower's configuration has it."""
        if self.root_certificates is None:
            return _toml({"address": self.address, "insecure": True}) + "\n"
        certificates = str(self.root_certificates.resolve())
        return _toml({"address": self.address, "root-certificates": certificates}) + "\n"


def start_environment(further: Mapping[str, str]) -> dict[str, str]:
    """The environment of a Flower process that speaks to nobody but this machine."""
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
    """A Flower process that did not start, or a run that Flower refused; with its last words."""


class FlowerProcesses:
    """A SuperLink of our own, and SuperNodes where wanted. Made by `own_flower_processes`.

    Loopback without TLS: for one machine and for tests, never between machines.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], connection: "Connection | None"
    ) -> None:
        self.folder = folder
        self.connection = connection or Connection(f"127.0.0.1:{free_port()}")
        self.address = self.connection.address
        self._environment = start_environment(
            {
                **NO_TELEMETRY,
                **environment,
                "RAY_TMPDIR": str(folder),
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray listens on loopback only
            }
        )
        self._keeper = start_keeper(folder)
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
                raise FlowerError(f"Flower's SuperLink did not start:\n{self.words('superlink')}")
            time.sleep(0.2)
        return superlink

    def start_supernode(
        self, name: str, node_config: Mapping[str, str], command: Sequence[str]
    ) -> "subprocess.Popen[bytes]":
        """Start a site's node, which looks for the SuperLink by itself.

        Parameters
        ----------
        name
            Of its folder and its log here.
        node_config
            What Flower hands to the app at the site.
        command
            The program that takes the arguments of `flower-supernode`, such as STOCK_SUPERNODE.
        """
        return self._start(
            command,
            name,
            "--insecure",
            "--superlink",
            self.address,
            "--port",
            str(free_port()),
            "--node-config",
            _toml(node_config, " "),
        )

    def run(
        self,
        run_config: Settings,
        simulation: Settings | None = None,
        *,
        bundle: Path = BUNDLE.parent,
    ) -> Iterator[str]:
        """Run a bundle; yield its log lines until the run has ended. Raises FlowerError where
        Flower refuses it. `simulation`: Flower's settings of a simulated federation."""
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
            raise FlowerError(f"`flwr run` failed:\n{self.words('run')}")

    def words(self, name: str, lines: int = 20) -> str:
        """The last lines that a process wrote."""
        text = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _start(
        self, command: Sequence[str], name: str, *arguments: str
    ) -> "subprocess.Popen[bytes]":
        home = self.folder / name
        home.mkdir(exist_ok=True)
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
                start_new_session=True,  # Ctrl-C reaches us alone; we end the others
            )
        self._children.append(child)
        return child

    def end(self) -> None:
        """End every process of this Flower; the keeper last, in case this is interrupted too."""
        for child in self._children:
            child.terminate()  # where there is no /proc, Flower's commands end their children
        end_processes_of(self.folder)
        for child in self._children:
            child.wait()
        self._keeper.terminate()
        self._keeper.wait()


@contextmanager
def own_flower_processes(
    environment: Mapping[str, str], connection: Connection | None = None
) -> Iterator[FlowerProcesses]:
    """A Flower that is gone at the end with its folder, however it ends; SIGTERM included.

    `connection`: of a SuperLink that is there already; only runs are started, then.
    Its folder is made where `RAY_TMPDIR` or `TMPDIR` say; Ray needs a path below 40 characters.
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
    """Let SIGTERM unwind the program as Ctrl-C does, so that what has to be ended is ended."""

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


def _toml(values: Settings, separator: str = "\n") -> str:
    """Flat TOML, or what Flower's command line takes for it; a JSON string is a TOML string."""
    return separator.join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
