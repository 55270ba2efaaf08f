"""`fedrad serve`: keeps the coordinator's SuperLink running, and its list of nodes up to date."""

import logging
import os
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
from fedrad.flower.local_socket import listen_at
from fedrad.flower.log_lines import moved_part, run_log_line
from fedrad.flower.processes import flower_environment
from fedrad.system.folders import make_folder
from fedrad.system.log_file import PrivateLogHandler
from fedrad.system.no_telemetry import NO_TELEMETRY
from fedrad.system.private import temporary_folder
from fedrad.system.secrets import inherited_descriptors

from .folder import Coordinator
from .keys import ServerKey
from .settings import CoordinatorSettings

log = logging.getLogger("fedrad.server")

PROGRAM = (sys.executable, "-m", "fedrad.deploy.coordinator.superlink")
LOG_BYTES, LOG_FILES = 10 * 2**20, 5
RESTART_SECONDS = (1.0, 60.0)
STEADY_SECONDS = 60.0
"""After a SuperLink has run for so long, the pause before a restart is the shortest again."""
STARTS = 3
"""Number of starts of a SuperLink that has not answered once, before `fedrad serve` gives up."""
CHECK_SECONDS = 2.0
RENEW_SECONDS = 3600.0
END_SECONDS = 15.0
"""How long a SuperLink may take to end."""


def reconcile(control: Control, coordinator: Coordinator) -> list[str]:
    """Register exactly the admitted members as Flower's nodes, and store their node ids.

    Each node is tried alone: one that the SuperLink refuses does not keep the others out.

    Parameters
    ----------
    control
        The control interface of the SuperLink.
    coordinator
        The coordinator, with its list of members.

    Returns
    -------
    list[str]
        A sentence for each change that the SuperLink refused: what, and what to do.

    Raises
    ------
    Refused
        If the list is missing or damaged; no node is registered or turned away then.
    httpx.TransportError
        If the SuperLink does not answer.
    """
    refused = []
    nodes = control.nodes()
    with coordinator.edit_members() as members:
        known = [member for member in members.sites if member.public_key]
        sites = {key_bytes(member.public_key or ""): member.site for member in known}
        admitted = {key_bytes(member.public_key or ""): member for member in members.admitted()}
        for key, (node, _) in nodes.items():
            if key in admitted:
                continue
            name = sites.get(key, f"node {node}")
            try:
                control.unregister(node)
            except httpx.HTTPStatusError as error:
                refused.append(f"{name} cannot be turned away ({_status(error)}); tried again")
            else:
                log.info("%s is turned away: not, or no longer, a member", name)
        for key, member in admitted.items():
            if key in nodes:
                member.node = nodes[key][0]
                continue
            try:
                member.node = control.register(key, member.site)
            except httpx.HTTPStatusError as error:
                refused.append(
                    f"{member.site} cannot be let in: Flower does not accept its key "
                    f"({_status(error)}); `fedrad sites revoke {member.site}` and invite it again"
                )
            else:
                log.info("%s is let in", member.site)
    return refused


def _status(error: httpx.HTTPStatusError) -> str:
    return f"HTTP {error.response.status_code}"


class _MemberUpdates:
    """Passes changes of the list of members on to a SuperLink."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._applied = -1
        self._last_fault = ""

    def apply(self) -> None:
        """Pass on the list if it has changed. The same fault is logged only once. Raises
        httpx.TransportError if the SuperLink does not answer."""
        file = self._coordinator.members_file
        if _modified(file) == self._applied:
            return
        try:
            refused = reconcile(Control(self._coordinator.socket), self._coordinator)
            fault = "; ".join(refused)
        except (Refused, httpx.HTTPStatusError) as error:
            fault = f"until this is mended nobody is let in or turned away: {error}"
        if not fault:
            self._applied = _modified(file)
        elif fault != self._last_fault:
            log.error("%s", fault)
        self._last_fault = fault


def serve(coordinator: Coordinator, settings: CoordinatorSettings) -> None:
    """Run the SuperLink until interrupted, and restart it if it ends by itself.

    Raises
    ------
    Refused
        If Flower has changed where fedrad relies on it; or if the
        SuperLink ended several times and never answered.
    SocketError
        If the SuperLink's socket cannot be made in the folder.
    """
    listen_at(coordinator.socket).close()  # what prevents it is said here, and not in a log
    coordinator.note_serving()
    environment = flower_environment(
        NO_TELEMETRY
        | temporary_folder(coordinator.folder)
        | {"FLWR_HOME": str(coordinator.folder / "flower")}
    )
    pause, renewed_at = RESTART_SECONDS[0], time.monotonic()
    key = ServerKey(coordinator.folder, settings.key, coordinator.passphrase)
    superlink, starts = _SuperLink(coordinator, settings, environment, key), 1
    members, announced, has_answered = _MemberUpdates(coordinator), False, False
    try:
        while True:
            time.sleep(CHECK_SECONDS if announced else 0.2)
            now = time.monotonic()
            if superlink.has_ended():
                if superlink.moved_part:
                    raise Refused(superlink.moved_part)
                if not has_answered and starts >= STARTS:
                    raise Refused(
                        f"the SuperLink ended {starts} times before it answered once; "
                        f"{superlink.log_file} says why. Its last line: {superlink.last_line}"
                    )
                if now - superlink.started > STEADY_SECONDS:
                    pause = RESTART_SECONDS[0]
                log.warning(
                    "the SuperLink ended (%s; %s has its words); started again in %.0f s. Nodes "
                    "come back by themselves; an experiment that was running needs `fedrad resume`",
                    superlink.process.returncode,
                    superlink.log_file,
                    pause,
                )
                time.sleep(pause)
                pause = min(2 * pause, RESTART_SECONDS[1])
                superlink = _SuperLink(coordinator, settings, environment, key)
                starts += 1
                members, announced = _MemberUpdates(coordinator), False
                continue
            if now - renewed_at > RENEW_SECONDS:
                renewed_at = now
                _renew(coordinator, settings, key)
            with suppress(httpx.TransportError):  # it does not answer yet
                members.apply()
                has_answered = True
                if not announced:
                    log.info("hospitals reach this coordinator at %s", settings.address)
                    announced = True
    finally:
        superlink.end()


def _renew(coordinator: Coordinator, settings: CoordinatorSettings, key: ServerKey) -> None:
    """Renew certificates that end soon. A fault is logged: hospitals that are connected stay so."""
    try:
        if coordinator.renew(settings):
            key.refresh()
            log.info("the server certificate was renewed")
    except Refused as error:
        log.error("the server certificate cannot be renewed: %s", error)


class _SuperLink:
    """A SuperLink in a process of its own; its output goes to a rotating log."""

    def __init__(
        self,
        coordinator: Coordinator,
        settings: CoordinatorSettings,
        environment: dict[str, str],
        key: ServerKey,
    ) -> None:
        folder = coordinator.folder
        self.log_file = folder / "logs" / "superlink.log"
        make_folder(self.log_file.parent)
        make_folder(folder / "flower")
        self.last_line = ""
        self.moved_part: str | None = None
        """What a FlowerMovedError says that ended the process."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*PROGRAM, *_arguments(coordinator, settings, key.path)],
            env=environment,
            pass_fds=inherited_descriptors(key.path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._log = threading.Thread(target=self._write_log, daemon=True)
        self._log.start()

    def has_ended(self) -> bool:
        """Whether the process has ended; its last line is then known."""
        if self.process.poll() is None:
            return False
        self._log.join(timeout=END_SECONDS)
        return True

    def end(self) -> None:
        """End the process."""
        self.process.terminate()
        try:
            self.process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _write_log(self) -> None:
        assert self.process.stdout is not None
        handler = PrivateLogHandler(self.log_file, maxBytes=LOG_BYTES, backupCount=LOG_FILES)
        for line in self.process.stdout:
            text = line.decode("utf-8", "replace").rstrip("\n")
            moment = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}"
            handler.emit(logging.makeLogRecord({"msg": moment}))
            if (said := run_log_line(text)) is not None:  # by the gate
                log.log(*said)
            self.last_line = text or self.last_line
            self.moved_part = moved_part(text) or self.moved_part
        handler.close()


def _arguments(coordinator: Coordinator, settings: CoordinatorSettings, key: str) -> list[str]:
    folder = coordinator.folder
    return [
        "--coordinator",
        str(folder),
        "--listen",
        settings.listen,
        "--hospital-port",
        str(settings.port),
        "--hospital-certificate",
        str(settings.certificate or folder / "server.crt"),
        "--hospital-key",
        key,
        "--parent",
        str(os.getpid()),
        "--socket",
        str(coordinator.socket),
        "--database",
        str(folder / "superlink.db"),
    ]


def _modified(file: Path) -> int:
    return file.stat().st_mtime_ns if file.is_file() else 0
