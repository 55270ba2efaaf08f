"""Flower's own processes on this machine: started, followed and ended by us, with nothing left.

Each has an own `FLWR_HOME` in one temporary folder. That is how all of them are found again,
whatever sessions and groups Flower and Ray make for their children. Loopback only.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from fedrad.system.no_telemetry import SILENCE
from fedrad.system.ports import free_port

START_SECONDS = 120.0
END_SECONDS = 5.0
NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: even without usage reports, Ray asks the network for its cloud."""
BUNDLE = Path(__file__).parent / "bundle" / "pyproject.toml"

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


class Flower:
    """A SuperLink of our own, and SuperNodes where wanted. Made by `own_flower`.

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
                **SILENCE,
                **environment,
                "RAY_TMPDIR": str(folder),
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray listens on loopback only
            }
        )
        self._keeper = _start_keeper(folder)
        self._children: list[subprocess.Popen[bytes]] = []

    def start_superlink(self, *options: str) -> "subprocess.Popen[bytes]":
        """Start the SuperLink and wait until it answers. Raises FlowerError."""
        host, port = self.address.split(":")
        superlink = self._start(
            "flower-superlink",
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
        self, name: str, node_config: Mapping[str, str], *, stock: bool = False
    ) -> "subprocess.Popen[bytes]":
        """Start a site's node, which looks for the SuperLink by itself; `stock`: with Flower's own
        executor."""
        own = [sys.executable, "-m", "fedrad.client.node.executor"]
        command = ["flower-supernode"] if stock else own
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
            "flwr",
            "run",
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
        self, command: str | Sequence[str], name: str, *arguments: str
    ) -> "subprocess.Popen[bytes]":
        home = self.folder / name
        home.mkdir(exist_ok=True)
        command = [command] if isinstance(command, str) else list(command)
        if "/" not in command[0]:
            command[0] = f"{sysconfig.get_path('scripts')}/{command[0]}"
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [*command, *arguments],
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


def end_processes_of(folder: Path) -> None:
    """End all processes of a folder; those that do not go at a word are killed."""
    patience = time.monotonic() + END_SECONDS
    asked: set[int] = set()
    while left := processes_of(folder):
        killed = time.monotonic() > patience
        for pid in left if killed else left - asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if killed else signal.SIGTERM)
        asked |= left
        time.sleep(0.1)


def processes_of(folder: Path) -> set[int]:
    """Ids of all processes whose `FLWR_HOME` lies in a folder, and of all their children.

    Their children too, as Ray's workers overwrite their environment. Empty where there is no
    /proc.
    """
    mark = f"FLWR_HOME={folder}{os.sep}".encode()
    found: set[int] = set()
    parents: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or somebody else's
            state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            if state == "Z":
                continue
            parents[int(process.name)] = int(parent)
            if any(v.startswith(mark) for v in (process / "environ").read_bytes().split(b"\0")):
                found.add(int(process.name))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@contextmanager
def own_flower(
    environment: Mapping[str, str], connection: Connection | None = None
) -> Iterator[Flower]:
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
        flower = Flower(Path(folder).resolve(), environment, connection)
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


def _start_keeper(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(os.getpid()), str(folder)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _keep(parent: int, folder: Path) -> None:
    """Wait for the program that made the folder. If it was killed, clear up in its place."""
    while os.getppid() == parent:
        time.sleep(0.5)
    end_processes_of(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _keep(int(sys.argv[1]), Path(sys.argv[2]))
