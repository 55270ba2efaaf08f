"""`fedrad serve`: the coordinator's SuperLink, kept running, with the members it should have."""

import logging
import logging.handlers
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx

from fedrad.deploy.refused import Refused
from fedrad.flower.control import Control, key_bytes
from fedrad.flower.processes import flower_environment
from fedrad.system.no_telemetry import NO_TELEMETRY

from .folder import Coordinator, Served

log = logging.getLogger("fedrad.server")

LOG_BYTES, LOG_FILES = 10 * 2**20, 5
RESTART_SECONDS = (1.0, 60.0)
STEADY_SECONDS = 60.0
"""A SuperLink that ran for so long is restarted at once."""
LOOK_SECONDS = 2.0
RENEW_SECONDS = 3600.0


def reconcile(control: Control, coordinator: Coordinator) -> None:
    """Have exactly the admitted members as Flower's nodes; note the number of each."""
    nodes = control.nodes()
    with coordinator.changed_members() as members:
        admitted = {key_bytes(member.public_key or ""): member for member in members.admitted()}
        for key, (node, _) in nodes.items():
            if key not in admitted:
                control.unregister(node)
                log.info("node %d is turned away: not, or no longer, a member", node)
        for key, member in admitted.items():
            known = nodes.get(key)
            if known is None:
                member.node = control.register(key, member.site)
                log.info("%s is let in", member.site)
            else:
                member.node = known[0]


class _Applied:
    """The list of members, as far as a SuperLink has it."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._known = -1
        self._said = ""

    def apply(self) -> None:
        """Bring a list that was changed to the SuperLink; what hinders is said once. Raises
        httpx.TransportError where it does not answer."""
        file = self._coordinator.members_file
        if _changed(file) == self._known:
            return
        try:
            reconcile(Control(self._coordinator.connection()), self._coordinator)
            self._known, self._said = _changed(file), ""
        except (Refused, httpx.HTTPStatusError) as error:
            if (text := str(error)) != self._said:
                log.error("until this is mended nobody is let in or turned away: %s", text)
            self._said = text


def serve(coordinator: Coordinator, served: Served) -> None:
    """Run the SuperLink until interrupted; it is restarted where it ends by itself.

    Raises Refused where its port cannot be had.
    """
    _check_port(served)
    environment = flower_environment(
        NO_TELEMETRY | {"FLWR_HOME": str(coordinator.folder / "flower")}
    )
    pause, renewed_at = RESTART_SECONDS[0], time.monotonic()
    process, started = _start(coordinator, served, environment), time.monotonic()
    members, announced = _Applied(coordinator), False
    try:
        while True:
            time.sleep(LOOK_SECONDS if announced else 0.2)
            now = time.monotonic()
            if process.poll() is not None:
                if now - started > STEADY_SECONDS:
                    pause = RESTART_SECONDS[0]
                log.warning(
                    "the SuperLink ended (%s; %s has its words); started again in %.0f s. Nodes "
                    "come back by themselves; an experiment that was running needs `fedrad resume`",
                    process.returncode,
                    coordinator.folder / "logs" / "superlink.log",
                    pause,
                )
                time.sleep(pause)
                pause = min(2 * pause, RESTART_SECONDS[1])
                process, started = _start(coordinator, served, environment), time.monotonic()
                members, announced = _Applied(coordinator), False
                continue
            if now - renewed_at > RENEW_SECONDS:
                renewed_at = now
                if coordinator.renew(served):
                    log.info("the server certificate was renewed")
            with suppress(httpx.TransportError):  # it does not answer yet
                members.apply()
                if not announced:
                    log.info("hospitals reach this coordinator at %s", served.address)
                    announced = True
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns if file.is_file() else 0


def _start(
    coordinator: Coordinator, served: Served, environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    folder = coordinator.folder
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "flower").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fedrad.deploy.coordinator.superlink",
            "--listen",
            served.listen,
            "--hospital-port",
            str(served.port),
            "--hospital-certificate",
            str(served.certificate or folder / "server.crt"),
            "--hospital-key",
            str(served.key or folder / "server.key"),
            "--ssl-ca-certfile",
            str(coordinator.authority.certificate_file),
            "--ssl-certfile",
            str(folder / "control.crt"),
            "--ssl-keyfile",
            str(folder / "control.key"),
            "--enable-supernode-auth",
            "--database",
            str(folder / "superlink.db"),
            "--disable-runtime-dependency-installation",
            "--host",
            "127.0.0.1",
            "--port",
            str(served.control_port),
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    threading.Thread(target=_keep_log, args=(process, folder / "logs"), daemon=True).start()
    return process


def _keep_log(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Write what a process says to a log that is rotated."""
    assert process.stdout is not None
    handler = logging.handlers.RotatingFileHandler(
        folder / "superlink.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
    )
    for line in process.stdout:
        text = line.decode("utf-8", "replace").rstrip("\n")
        moment = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}"
        handler.emit(logging.makeLogRecord({"msg": moment}))
    handler.close()


def _check_port(served: Served) -> None:
    for host, port in ((served.listen, served.port), ("127.0.0.1", served.control_port)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise Refused(
                    f"{host}:{port} cannot be had ({error.strerror}): is another `fedrad serve` "
                    "running? Ports below 1024 need rights"
                ) from error
