"""The coordinator's SuperLink: a Unix socket for its own user, and a listener for hospitals.

    python -m fedrad.flower.superlink --parent PID --socket PATH [--database FILE] [--simulation]

Flower's own command opens one port for everything: to start runs, to hand out their tasks, and for
the nodes. Here all of that is reached over the socket, behind a check (`own_interface`), and what
hospitals need also over the listener, behind a gate. The coordinator's part of a run works in forks
of another process (`server_executor`), which starts and ends with this one.
"""

from fedrad.system.no_telemetry import disable_telemetry

disable_telemetry()

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn

from fedrad.system.private import make_private
from fedrad.system.process_family import end_with_parent

from .asgi import App
from .hospital_listener import HospitalAddress, HospitalListener
from .internals import (
    FLWR_IN_MEMORY_DB_NAME,
    TRANSPORT_TYPE_GRPC_RERE,
    console_handler,
    create_app,
    get_uvicorn_log_config,
    load_control_authn_plugin,
)
from .local_socket import listen_at
from .own_interface import OwnInterface

EXECUTOR = (sys.executable, "-m", "fedrad.flower.server_executor")
END_SECONDS = 10.0
"""How long the runs may take to end."""
log = logging.getLogger("fedrad.superlink")


def run_superlink(gate: Callable[[App], App] | None = None) -> None:
    """Run a SuperLink until it gets a signal to end.

    The command line holds `--parent`, the id of the process that started this one, `--socket`,
    `--database` (in memory by default) and `--simulation`. With a gate also `--listen HOST
    --hospital-port PORT --hospital-certificate FILE --hospital-key FILE`.

    Parameters
    ----------
    gate
        The SuperLink's application -> the application that hospitals reach. None: nodes connect
        over the socket, and are not asked who they are.

    Raises
    ------
    FlowerMovedError
        If Flower has changed; raised before the SuperLink starts.
    SocketError
        If the socket cannot be made.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--database", default=FLWR_IN_MEMORY_DB_NAME)
    parser.add_argument("--simulation", action="store_true")
    if gate is not None:
        parser.add_argument("--listen", required=True)
        parser.add_argument("--hospital-port", type=int, required=True)
        parser.add_argument("--hospital-certificate", type=Path, required=True)
        parser.add_argument("--hospital-key", type=Path, required=True)
    given = parser.parse_args()
    end_with_parent(given.parent)
    asyncio.run(_serve(given, gate))


class _Lifespan:
    """Flower's class of this role starts servers and executors of its own; none is wanted."""

    def __init__(self, config: object, state_factory: object) -> None:
        pass

    def startup(self) -> None:
        """Start nothing."""

    def shutdown(self) -> None:
        """End nothing."""


async def _serve(given: argparse.Namespace, gate: Callable[[App], App] | None) -> None:
    config: Any = SimpleNamespace(  # the settings that Flower reads of those of its command
        simulation=given.simulation,
        database=given.database,
        superexec_auth_secret=None,
        artifact_provider=None,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        authn_plugin=load_control_authn_plugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_supernode_auth=gate is not None,
    )
    lifespan: Any = _Lifespan
    app: App = create_app(config, lifespan)
    ending = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    with contextlib.closing(listen_at(given.socket)) as socket, _executor(given) as executor:
        own = _OwnListener(
            uvicorn.Config(
                OwnInterface(app, nodes=gate is None),
                access_log=False,
                log_config=get_uvicorn_log_config(console_handler.level),
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=5,
            )
        )
        servers: list[uvicorn.Server] = [own]
        running = [asyncio.create_task(own.serve(sockets=[socket]))]
        waiting = [
            asyncio.create_task(ending.wait()),
            asyncio.create_task(_wait_for(executor)),
        ]
        if gate is not None:
            hospitals = HospitalListener(
                gate(app),
                HospitalAddress(
                    given.listen,
                    given.hospital_port,
                    given.hospital_certificate,
                    given.hospital_key,
                ),
            )
            servers.append(hospitals)
            running.append(asyncio.create_task(hospitals.serve()))
            waiting.append(asyncio.create_task(hospitals.reload_certificate()))
        await asyncio.wait([*running, *waiting], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(_end, executor)  # runs say their last words to the SuperLink
        for server in servers:
            server.should_exit = True
        for task in waiting:
            task.cancel()
        await asyncio.gather(*running)


class _OwnListener(uvicorn.Server):
    """A server that leaves the signals to `_serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def _executor(given: argparse.Namespace) -> Iterator["subprocess.Popen[bytes]"]:
    kind = ["--simulation"] if given.simulation else []
    executor = subprocess.Popen(
        [*EXECUTOR, "--parent", str(os.getpid()), "--socket", str(given.socket.resolve()), *kind],
        stdin=subprocess.DEVNULL,
    )
    try:
        yield executor
    finally:
        _end(executor)
        with contextlib.suppress(OSError):
            given.socket.unlink()


async def _wait_for(executor: "subprocess.Popen[bytes]") -> None:
    """Wait until the executor has ended. The SuperLink ends then, so that both start again."""
    while executor.poll() is None:
        await asyncio.sleep(1)
    log.error("the executor ended (%s), and so does the SuperLink", executor.returncode)


def _end(executor: "subprocess.Popen[bytes]") -> None:
    executor.terminate()
    try:
        executor.wait(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        executor.kill()
        executor.wait()


if __name__ == "__main__":
    make_private()
    run_superlink()
