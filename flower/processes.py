"""Flower's processes on this machine: started, followed and completely ended.

They speak over a Unix socket, which only this user can reach. Each process has its own `FLWR_HOME`
in one temporary folder, by which all of them are recognised (`process_tree`).
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from fedrad.system.no_telemetry import NO_TELEMETRY
from fedrad.system.ports import listens_at

from .control import Control, FlowerError, FlowerSettings
from .local_socket import LOCAL
from .process_tree import end_processes_of, start_watchdog

START_SECONDS = 120.0
NOWHERE = "http://127.0.0.1:9"
"""Address of a proxy that does not exist: Ray would ask the network for a cloud otherwise."""
SOCKET = "superlink.sock"
PROGRAM = (sys.executable, "-m", "fedrad.flower.superlink")


def flower_environment(further: Mapping[str, str]) -> dict[str, str]:
    """Environment of a Flower process that can only connect to this machine.

    No variable of the person's own about proxies is left, whichever library reads it.
    """
    scripts = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    own = {name: value for name, value in os.environ.items() if not _is_of_proxies(name)}
    return {
        **own,
        **further,
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost,::1"),
        "PATH": scripts,  # Flower starts its own commands by name
        "PYTHONUNBUFFERED": "1",
    }


def _is_of_proxies(name: str) -> bool:
    """Such as ALL_PROXY, or grpc_proxy and no_grpc_proxy, which Ray's connections obey first."""
    return name.lower().endswith("_proxy")


class FlowerProcesses:
    """Flower's processes in a temporary folder: a SuperLink, SuperNodes, runs.

    Made by `own_flower_processes`.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.socket = folder / SOCKET
        self._environment = flower_environment(
            {
                **NO_TELEMETRY,
                **environment,
                "RAY_TMPDIR": str(folder),
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray listens on loopback only
                # and there to this user only: another one cannot read the environment
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": secrets.token_hex(32),
            }
        )
        self._watchdog = start_watchdog(folder)
        self._children: list[subprocess.Popen[bytes]] = []

    def start_superlink(self, *options: str) -> "subprocess.Popen[bytes]":
        """Start the SuperLink, and wait until it answers. Raises FlowerError."""
        superlink = self.start(
            PROGRAM,
            "superlink",
            "--parent",
            str(os.getpid()),
            "--socket",
            str(self.socket),
            *options,
        )
        self.wait_for(superlink, lambda: listens_at(self.socket))
        return superlink

    def wait_for(self, superlink: "subprocess.Popen[bytes]", answers: Callable[[], bool]) -> None:
        """Wait until a SuperLink answers. Raises FlowerError."""
        end = time.monotonic() + START_SECONDS
        while not answers():
            if superlink.poll() is not None or time.monotonic() > end:
                raise FlowerError(
                    f"Flower's SuperLink did not start:\n{self.last_lines('superlink')}"
                )
            time.sleep(0.1)

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
            A program with the arguments of `flower-supernode`, and `--superlink-socket`.
        """
        return self.start(
            command,
            name,
            "--insecure",
            "--superlink-socket",
            str(self.socket),
            "--superlink",
            LOCAL,
            "--node-config",
            flat_toml(node_config, " "),
        )

    def run(
        self, run_config: FlowerSettings, simulation: FlowerSettings | None = None
    ) -> Iterator[str]:
        """Run fedrad's bundle until it has ended. See `Control.run`."""
        yield from Control(self.socket).run(run_config, simulation)

    def last_lines(self, name: str, lines: int = 20) -> str:
        """The last lines of the log of a process."""
        text = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def start(
        self, command: Sequence[str], name: str, *arguments: str
    ) -> "subprocess.Popen[bytes]":
        """Start a program with a folder and a log of its own."""
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
    environment: Mapping[str, str], kind: type[FlowerProcesses] = FlowerProcesses
) -> Iterator[FlowerProcesses]:
    """Flower's processes in a temporary folder, all removed at the end, also after SIGTERM.

    The folder is made in `RAY_TMPDIR` or `TMPDIR`; Ray needs a path below 40 characters.

    Parameters
    ----------
    environment
        Further environment variables of the processes.
    kind
        Class of the processes.

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
        flower = kind(Path(folder).resolve(), environment)
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


def flat_toml(values: FlowerSettings, separator: str = "\n") -> str:
    """Flat TOML for a file or for Flower's command line; a JSON string is a TOML string."""
    return separator.join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
    )
