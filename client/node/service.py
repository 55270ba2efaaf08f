"""`fedrad-site start`: runs the site's node until the hospital stops it.

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
from threading import Event, Thread
from types import FrameType

from fedrad.client.policy.ledger_heads import HEADS, write_head
from fedrad.client.policy.membership import RUNNING, Membership
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import JOINED, Site
from fedrad.flower import log_lines
from fedrad.system.errors import UserError
from fedrad.system.files import is_locked, locked, write_whole
from fedrad.system.folders import make_folder
from fedrad.system.log_file import PrivateLogHandler
from fedrad.system.no_telemetry import NO_TELEMETRY
from fedrad.system.ports import free_port
from fedrad.system.private import temporary_folder
from fedrad.system.secrets import MemoryFile, inherited_descriptors

NODE_COMMAND = (sys.executable, "-m", "fedrad.client.node.executor")
"""Command of the node, with the arguments of `flower-supernode`."""
LOG_BYTES, LOG_FILES = 5 * 2**20, 5
RESTART_SECONDS = (5.0, 60.0)
"""Shortest and longest pause before a node that ended is started again."""
STEADY_SECONDS = 120.0
HEAD_SECONDS = 24 * 3600.0
"""How often the head of the ledger is written down while the node runs."""
log = logging.getLogger("fedrad.site")

NOT_LET_IN = (
    "the coordinator does not let this node in. After a node was killed that takes about a minute; "
    "if it lasts, the coordinator has not admitted it yet (`fedrad sites admit`), or has revoked "
    "it, or this machine's clock is wrong"
)
EVENTS = (
    (log_lines.CONNECTED, logging.INFO, "connected; waiting for the coordinator"),
    (log_lines.NOT_ADMITTED, logging.WARNING, NOT_LET_IN),
    (
        log_lines.OTHER_CERTIFICATE,
        logging.ERROR,
        "the coordinator's certificate is not the one of the invitation: either another machine "
        "answers in its place, or the coordinator has a new authority and must invite again",
    ),
    (log_lines.CONNECTED_AGAIN, logging.INFO, "the connection is back"),
    (log_lines.MESSAGE_RECEIVED, logging.INFO, "a message came; working on it"),
    (log_lines.ANSWER_SENT, logging.INFO, "answered"),
    (log_lines.MESSAGE_LOST, logging.WARNING, "a message was lost on the way"),
    (log_lines.RUN_HAS_ENDED, logging.INFO, "the experiment has ended meanwhile"),
)
"""Kind of line in the node's log, with level and text of the line in the site's log."""


def start(site: Site, membership: Membership, key: bytes | None = None) -> None:
    """Run the node until SIGTERM (finishes the current round first) or SIGINT (at once).

    `key`: the node's private key in the format of OpenSSH, which Flower then reads from memory;
    None: it reads the file. Raises SiteProblem if a node of this site runs already.
    """
    with _locked_node(site) as running:
        node = _Node(site, membership, key)
        stop = _Stop(node)
        write_whole(running, str(os.getpid()))
        # Only a warning: the node works without these lines, and node.log has all that it prints.
        for fault in log_lines.missing_lines():
            log.warning("this log may lack events of the node: %s", fault)
        log.info("%s: connecting to %s", site.name, membership.address)
        with _daily_heads(site):
            _run_until_stopped(node, stop)
        log.info("%s: stopped", site.name)


def _run_until_stopped(node: "_Node", stop: "_Stop") -> None:
    """Run the node, and start it again whenever it ends."""
    pause = RESTART_SECONDS[0]
    while True:
        began = time.monotonic()
        node.run()
        if stop.is_wanted():
            return
        if time.monotonic() - began > STEADY_SECONDS:
            pause = RESTART_SECONDS[0]
        log.info("the node ended; started again in %.0f s", pause)
        stop.sleep(pause)
        if stop.is_wanted():
            return
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


def stop(site: Site, *, now: bool) -> None:
    """End the node of this site, which another process started; wait until it has ended.

    Parameters
    ----------
    site
        The site.
    now
        Whether to abandon the current round instead of finishing it.

    Raises
    ------
    SiteProblem
        If no node of this site runs on this machine.
    """
    running = site.state / RUNNING
    try:
        pid = int(running.read_text(encoding="ascii"))
        here = is_locked(running)
    except (OSError, ValueError):
        here = False
    if not here:
        raise SiteProblem("internal", f"{site.name}: no node of this site runs here")
    os.kill(pid, signal.SIGINT if now else signal.SIGTERM)
    while is_locked(running):
        time.sleep(0.2)


class _Node:
    """The node's process, and its log."""

    def __init__(self, site: Site, membership: Membership, key: bytes | None = None) -> None:
        self.site = site
        self.membership = membership
        self._key = None if key is None else MemoryFile(key)
        self.process: subprocess.Popen[bytes] | None = None
        self._last = ""
        self._log = PrivateLogHandler(
            site.state / "node.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
        )
        self._log.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def run(self) -> None:
        """Start the node and wait until it ends."""
        member, home = self.membership, self.site.state / "flower"
        make_folder(home)
        key = str(member.key) if self._key is None else self._key.path
        here = {
            "folder": str(self.site.folder.resolve()),
            "name": self.site.name,
            "state": str(self.site.state.resolve()),
            JOINED: "yes",
        }
        self.process = subprocess.Popen(
            [
                *NODE_COMMAND,
                "--superlink",
                member.address,
                "--root-certificates",
                str(member.ca),
                "--auth-supernode-private-key",
                key,
                "--host",
                "127.0.0.1",
                "--port",
                str(free_port()),
                "--node-config",
                " ".join(f"{k}={json.dumps(v)}" for k, v in here.items()),
            ],
            env={
                **os.environ,
                **NO_TELEMETRY,
                **temporary_folder(self.site.state),
                "FLWR_HOME": str(home),
                "PYTHONUNBUFFERED": "1",
                **_no_local_proxy(),
            },
            pass_fds=inherited_descriptors(key),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        reader = Thread(target=self._read, daemon=True)
        reader.start()
        self.process.wait()
        reader.join(timeout=2)

    def end(self, number: int) -> None:
        """Pass a signal on."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            text = line.decode("utf-8", "replace").rstrip("\n")
            self._log.emit(logging.makeLogRecord({"msg": text}))
            if (event := _event(text)) is not None:
                level, words = event
                if words != self._last or level < logging.WARNING:
                    log.log(level, "%s", words)
                self._last = words


def _event(line: str) -> tuple[int, str] | None:
    """Level and text of the site's line for a line of the node's log; None if there is none."""
    if moved := log_lines.moved_part(line):
        return logging.ERROR, moved
    if wrong := log_lines.clock_fault(line):
        return logging.ERROR, wrong
    return next(((level, words) for kind, level, words in EVENTS if kind.matches(line)), None)


class _Stop:
    """Passes SIGTERM and SIGINT on to the node, after which no node is started again."""

    def __init__(self, node: _Node) -> None:
        self._wanted = False
        self._node = node
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if not self._wanted and number == signal.SIGTERM:
            log.info("stopping; a round in hand is finished first")
        self._wanted = True
        self._node.end(number)

    def is_wanted(self) -> bool:
        """Whether a signal to end has come."""
        return self._wanted

    def sleep(self, seconds: float) -> None:
        """Sleep, but not longer than until a signal to end comes."""
        until = time.monotonic() + seconds
        while not self._wanted and time.monotonic() < until:
            time.sleep(0.1)


@contextmanager
def _locked_node(site: Site) -> Iterator[Path]:
    """Lock the site's node for this process. Yields the file for the id of the process."""
    make_folder(site.state)
    running = site.state / RUNNING
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(running, wait=False))
        except BlockingIOError:
            raise SiteProblem(
                "internal", f"{site.name}: a node of this site runs already"
            ) from None
        running.unlink(missing_ok=True)  # file of a process that was killed
        yield running


def _no_local_proxy() -> dict[str, str]:
    """Environment with which the processes of a node connect to each other without a proxy."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = ",".join(filter(None, [given, "127.0.0.1", "localhost"]))
    return {"no_proxy": hosts, "NO_PROXY": hosts}
