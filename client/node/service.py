"""`fedrad-site start`: runs the site's node until the hospital stops it (`stopping`).

The service survives restarts of the coordinator and hours without network, and waits until Flower
accepts a node again that was killed. It logs the state of the node in plain words. The node's own
log is `node.log` in the state folder.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread, Timer
from types import FrameType

from fedrad.client.policy.ledger_heads import HEADS, write_head
from fedrad.client.policy.membership import RUNNING, Membership
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import JOINED, Site
from fedrad.flower import log_lines
from fedrad.flower.local_socket import listen_at
from fedrad.flower.runtime_api import runtime_socket
from fedrad.system.errors import UserError
from fedrad.system.files import locked, write_whole
from fedrad.system.folders import PRIVATE_FOLDER, make_folder
from fedrad.system.log_file import PrivateLogHandler
from fedrad.system.no_telemetry import NO_TELEMETRY
from fedrad.system.private import temporary_folder
from fedrad.system.process_family import start_child
from fedrad.system.proxies import not_understood, proxy_for
from fedrad.system.secrets import MemoryFile, inherited_descriptors

from .events import event
from .family import SERVICE, service_of, speakers
from .stopping import AT_ONCE_SECONDS

NODE_COMMAND = (sys.executable, "-m", "fedrad.client.node.executor")
"""Command of the node, with the arguments of `flower-supernode`."""
LOG_BYTES, LOG_FILES = 5 * 2**20, 5
RESTART_SECONDS = (5.0, 60.0)
"""Shortest and longest pause before a node that ended is started again."""
STEADY_SECONDS = 120.0
HEAD_SECONDS = 24 * 3600.0
"""How often the head of the ledger is written down while the node runs."""
log = logging.getLogger("fedrad.site")


def start(site: Site, membership: Membership, key: bytes | None = None) -> None:
    """Run the node until SIGTERM (finishes the current round first), or until SIGINT or SIGHUP, the
    end of the terminal (both at once).

    Parameters
    ----------
    site
        The site.
    membership
        How it reaches its coordinator.
    key
        The node's private key in the format of OpenSSH, which Flower then reads from memory; None:
        it reads the file.

    Raises
    ------
    SiteProblem
        If a node of this site runs already.
    SocketError
        If the state folder cannot hold a socket that is this user's alone.
    ProxySettingError
        If the environment names a proxy that cannot be used.
    """
    proxy = proxy_for(membership.host, membership.port)
    with _locked_node(site) as (running, lock):
        node = _Node(site, membership, lock, key)
        stop = _Stop(node, running)
        write_whole(running, str(os.getpid()))
        # Only a warning: the node works without these lines, and node.log has all that it prints.
        for fault in log_lines.missing_lines():
            log.warning("this log may lack events of the node: %s", fault)
        for sentence in not_understood():
            log.warning("%s", sentence)
        log.info(
            "%s: connecting to %s%s",
            site.name,
            membership.address,
            f" through {proxy}" if proxy else "",
        )
        try:
            with _daily_heads(site):
                _run_until_stopped(node, stop)
        finally:
            if service_of(site.state) == os.getpid():  # not the file of another service
                running.unlink(missing_ok=True)
        log.info("%s: stopped", site.name)


def _run_until_stopped(node: "_Node", stop: "_Stop") -> None:
    """Run the node, and start it again whenever it ends."""
    pause = RESTART_SECONDS[0]
    while True:
        if stop.is_wanted():
            return
        began = time.monotonic()
        node.run()
        if stop.is_wanted():
            return
        if time.monotonic() - began > STEADY_SECONDS:
            pause = RESTART_SECONDS[0]
        log.info("the node ended; started again in %.0f s", pause)
        stop.sleep(pause)
        pause = min(pause * 2, RESTART_SECONDS[1])


@contextmanager
def _daily_heads(site: Site) -> Iterator[None]:
    """While the node runs, write the head of the ledger down once a day."""
    ended = Event()

    def write() -> None:
        while not ended.wait(HEAD_SECONDS):
            try:
                head = write_head(site.name, site.state)
            except (UserError, OSError) as error:
                log.error("%s", error)
            else:
                log.info("head of the ledger, also in %s: %s", HEADS, head)

    Thread(target=write, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


class _Node:
    """The node's process, and its log."""

    def __init__(
        self, site: Site, membership: Membership, lock: int, key: bytes | None = None
    ) -> None:
        self.site = site
        self.membership = membership
        self.lock = lock
        self._key = None if key is None else MemoryFile(key)
        self.home = site.state.resolve() / "flower"
        make_folder(self.home)
        self.home.chmod(PRIVATE_FOLDER)  # an earlier version made it for everybody
        listen_at(runtime_socket(self.home)).close()  # an unsuitable folder ends the start here
        self.process: subprocess.Popen[bytes] | None = None
        self._ended_by: int | None = None
        """Signal that has ended the node, or will: it may come while the process is started."""
        self._last = ""
        self._log = PrivateLogHandler(
            site.state / "node.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES
        )
        self._log.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def run(self) -> None:
        """Start the node and wait until it ends."""
        member = self.membership
        key = str(member.key) if self._key is None else self._key.path
        here = {
            "folder": str(self.site.folder.resolve()),
            "name": self.site.name,
            "state": str(self.site.state.resolve()),
            JOINED: "yes",
        }
        self.process = start_child(
            [
                *NODE_COMMAND,
                "--superlink",
                member.address,
                "--root-certificates",
                str(member.ca),
                "--auth-supernode-private-key",
                key,
                "--node-config",
                " ".join(f"{k}={json.dumps(v)}" for k, v in here.items()),
            ],
            environment={
                **os.environ,
                **NO_TELEMETRY,
                **temporary_folder(self.site.state),
                SERVICE: str(os.getpid()),
                "FLWR_HOME": str(self.home),
                "PYTHONUNBUFFERED": "1",
            },
            lock=self.lock,
            descriptors=inherited_descriptors(key),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if self._ended_by is not None:
            self.end(self._ended_by)
        reader = Thread(target=self._read, daemon=True)
        reader.start()
        self.process.wait()
        reader.join(timeout=2)

    def end(self, number: int) -> None:
        """Pass a signal on. After SIGINT, a node that does not end is killed, and with it all
        processes that it started. A process that is just being started gets it then."""
        self._ended_by = number
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)
            if number == signal.SIGINT:
                killed = Timer(AT_ONCE_SECONDS, self.process.kill)
                killed.daemon = True
                killed.start()

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            text = line.decode("utf-8", "replace").rstrip("\n")
            self._log.emit(logging.makeLogRecord({"msg": text}))
            if (told := event(text)) is not None:
                level, words = told
                if words != self._last or level < logging.WARNING:
                    log.log(level, "%s", words)
                self._last = words


class _Stop:
    """Passes SIGTERM and SIGINT on to the node, after which no node is started again.

    SIGHUP counts as SIGINT: when the terminal is closed or its user logs out, nobody is there who
    waits for a round. Under `nohup` it is ignored.
    """

    def __init__(self, node: _Node, running: Path) -> None:
        self._wanted = False
        self._node = node
        self._running = running
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        first, self._wanted = not self._wanted, True
        if number == signal.SIGTERM:
            if first:  # a second signal can come while the first is logged (`timeout` sends two)
                with suppress(OSError):  # a log that cannot be printed must not keep the node alive
                    log.info("stopping; a round in hand is finished first")
            self._node.end(signal.SIGTERM)
        else:
            self._running.unlink(missing_ok=True)  # what is computed from here on does not leave
            self._node.end(signal.SIGINT)

    def is_wanted(self) -> bool:
        """Whether a signal to end has come, or this service may not speak any more because its file
        was removed."""
        return self._wanted or service_of(self._running.parent) != os.getpid()

    def sleep(self, seconds: float) -> None:
        """Sleep, but not longer than until a signal to end comes."""
        until = time.monotonic() + seconds
        while not self._wanted and time.monotonic() < until:
            time.sleep(0.1)


@contextmanager
def _locked_node(site: Site) -> Iterator[tuple[Path, int]]:
    """Lock the site's node for this process.

    Yields
    ------
    tuple of Path and int
        The file for the id of the process, and the descriptor of its lock, for the children.
    """
    make_folder(site.state)
    running = site.state / RUNNING
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(locked(running, wait=False))
            others = speakers(site.state)  # of a version that held no lock
        except BlockingIOError:
            others = speakers(site.state)
            if not others:
                raise SiteProblem(
                    "internal",
                    f"{site.name}: a node of this site runs already, as another user, in a "
                    "container, or on another machine that shares the state folder",
                ) from None
        if others:
            raise SiteProblem(
                "internal",
                f"{site.name}: a node of this site runs already: {'; '.join(map(str, others))}. "
                "`fedrad-site stop` ends it, `fedrad-site stop --now` whatever it does",
            )
        running.unlink(missing_ok=True)  # file of a process that was killed
        yield running, lock
