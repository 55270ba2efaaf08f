"""The processes that speak for a site on this machine: the service, the node, visits.

All of them hold the lock of `node.pid`, which the service takes and its children inherit. The file
has the id of the service whose processes may speak. A process whose service is not named there has
been stopped, and sends nothing, whatever it has computed.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrad.client.policy.membership import RUNNING
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import JOINED
from fedrad.flower.process_tree import processes_of
from fedrad.system.files import lock_of

SERVICE = "FEDRAD_SERVICE"
"""Environment variable: id of the service to which a process of the node belongs."""
_COMMAND_CHARACTERS = 70


@dataclass(frozen=True)
class Speaker:
    """A process that speaks for the site, or can."""

    pid: int
    since: float
    """Seconds since the epoch."""
    command: str

    def __str__(self) -> str:
        """For a person who wants to find it."""
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        return f"{self.pid} since {since} ({self.command})"


def speakers(state: Path) -> list[Speaker]:
    """All processes but this one that hold the lock of a site's node, or run Flower for it.

    Only those that this user may look at; for root, all of this machine (or container).
    """
    pids = processes_of(state) | processes_of(state.resolve()) | _holders(lock_of(state / RUNNING))
    found = (_speaker(pid) for pid in sorted(pids - {os.getpid()}))
    return [speaker for speaker in found if speaker is not None]


def service_of(state: Path) -> int | None:
    """Id of the service that may speak for the site; None if there is none, or it was stopped."""
    try:
        return int((state / RUNNING).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def check_not_stopped(node_config: Mapping[str, Any]) -> None:
    """Refuse the answer of a node that was stopped, or whose service has ended, meanwhile.

    A node that `fedrad-site start` does not run, as in a simulation, has no service.

    Parameters
    ----------
    node_config
        The configuration of the node.

    Raises
    ------
    SiteProblem
        "internal", if this process may not speak for the site any more.
    """
    if not node_config.get(JOINED):
        return
    state = node_config.get("state")
    service = service_of(Path(str(state))) if state else None
    asked_by = os.environ.get(SERVICE)
    if service is None or asked_by != str(service) or _speaker(service) is None:
        raise SiteProblem(
            "internal",
            "the node was stopped while the answer was computed, so it does not leave. The "
            "coordinator can ask again when the site is back",
        )


def _holders(lock: Path) -> set[int]:
    """Ids of the processes that hold a lock, or have its descriptor from one that did; also if the
    file of the lock was removed since."""
    removed = f"{lock.parent.resolve() / lock.name} (deleted)"  # as /proc names it
    file: tuple[int, int] | None = None
    with suppress(OSError):
        found = lock.stat()
        file = found.st_dev, found.st_ino
    pids = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended, or belongs to another user
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    found = descriptor.stat()
                    same = (found.st_dev, found.st_ino) == file
                    same = same or str(descriptor.readlink()) == removed
                    # A command that only looks whether the file is locked has it open too.
                    if same and "FLOCK" in (process / "fdinfo" / descriptor.name).read_text():
                        pids.add(int(process.name))
                        break
    return pids


def _speaker(pid: int) -> Speaker | None:
    """What is known about a process; None if it has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        with open("/proc/stat", encoding="ascii") as system:
            booted = next(int(line.split()[1]) for line in system if line.startswith("btime"))
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    since = booted + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return Speaker(pid, since, command.strip()[:_COMMAND_CHARACTERS])
