"""`fedrad-site start`: the site's node, kept running for as long as the hospital wants.

It outlives restarts of the coordinator and hours without network, waits until Flower lets a node
back in that was killed, and says in plain words how it stands. What the node itself says goes to
`node.log` in the state folder.
"""

import json
import logging
import logging.handlers
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from types import FrameType

from fedrad.client.policy.membership import Membership
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.flower import log_lines
from fedrad.system.files import PRIVATE_FOLDER, is_locked, locked, write_whole
from fedrad.system.no_telemetry import NO_TELEMETRY
from fedrad.system.ports import free_port

NODE_COMMAND = (sys.executable, "-m", "fedrad.client.node.executor")
"""The node's program, which takes the arguments of `flower-supernode`."""
LOG_BYTES, LOG_FILES = 5 * 2**20, 5
AGAIN_SECONDS = (5.0, 60.0)
"""How long to wait before a node that ended is started again: at first, and at most."""
STEADY_SECONDS = 120.0
RUNNING = "node.pid"
"""In the state folder: number of the process, which holds the file's lock while it runs."""
log = logging.getLogger("fedrad.site")

NOT_LET_IN = (
    "the coordinator does not let this node in. After a node was killed that takes about a minute; "
    "if it lasts, the coordinator has not admitted it yet (`fedrad sites admit`), or has revoked "
    "it, or this machine's clock is wrong"
)
WORDS = (
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
"""Line of the node's log -> level and text of the line in the site's."""


def start(site: Site, membership: Membership) -> None:
    """Run the node until SIGTERM (after the round in hand) or SIGINT (at once).

    Raises SiteProblem where a node of this site runs already.
    """
    with _only_one(site) as running:
        node = _Node(site, membership)
        stop = _Stop(node)
        write_whole(running, str(os.getpid()))
        # A warning and no refusal: the node works without, and all it prints is in node.log.
        for fault in log_lines.missing_lines():
            log.warning("this log may lack events of the node: %s", fault)
        log.info("%s: connecting to %s", site.name, membership.address)
        pause = AGAIN_SECONDS[0]
        while True:
            began = time.monotonic()
            node.run()
            if stop.is_wanted():
                break
            if time.monotonic() - began > STEADY_SECONDS:
                pause = AGAIN_SECONDS[0]
            log.info("the node ended; started again in %.0f s", pause)
            stop.sleep(pause)
            if stop.is_wanted():
                break
            pause = min(pause * 2, AGAIN_SECONDS[1])
        log.info("%s: stopped", site.name)


def stop(site: Site, *, now: bool) -> None:
    """End the node of this site, started elsewhere on this machine; wait until it has ended.

    `now`: abandon the round in hand. Raises SiteProblem where none runs.
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

    def __init__(self, site: Site, membership: Membership) -> None:
        self.site = site
        self.membership = membership
        self.process: subprocess.Popen[bytes] | None = None
        self._last = ""
        self._log = logging.handlers.RotatingFileHandler(
            site.state / "node.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
        )
        self._log.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def run(self) -> None:
        """Start the node and wait until it ends."""
        member, home = self.membership, self.site.state / "flower"
        home.mkdir(exist_ok=True)
        here = {
            "folder": str(self.site.folder.resolve()),
            "name": self.site.name,
            "state": str(self.site.state.resolve()),
        }
        self.process = subprocess.Popen(
            [
                *NODE_COMMAND,
                "--superlink",
                member.address,
                "--root-certificates",
                str(member.ca),
                "--auth-supernode-private-key",
                str(member.key),
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
                "FLWR_HOME": str(home),
                "PYTHONUNBUFFERED": "1",
                **_no_proxy_here(),
            },
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
    """Level and text with which a line of the node's log is passed on; None: it is not."""
    if moved := log_lines.moved_part(line):
        return logging.ERROR, moved
    return next(((level, words) for kind, level, words in WORDS if kind.matches(line)), None)


class _Stop:
    """SIGTERM and SIGINT: passed on to the node; no other is started afterwards."""

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
        """Whether the end is wanted."""
        return self._wanted

    def sleep(self, seconds: float) -> None:
        """Sleep until then, or until the end is wanted."""
        until = time.monotonic() + seconds
        while not self._wanted and time.monotonic() < until:
            time.sleep(0.1)


@contextmanager
def _only_one(site: Site) -> Iterator[Path]:
    """Hold the site's node for this process. Yields the file that its number belongs in."""
    site.state.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    running = site.state / RUNNING
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(running, wait=False))
        except BlockingIOError:
            raise SiteProblem(
                "internal", f"{site.name}: a node of this site runs already"
            ) from None
        running.unlink(missing_ok=True)  # of a node that was killed
        yield running


def _no_proxy_here() -> dict[str, str]:
    """What the processes of a node say to each other goes through no proxy."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = ",".join(filter(None, [given, "127.0.0.1", "localhost"]))
    return {"no_proxy": hosts, "NO_PROXY": hosts}
