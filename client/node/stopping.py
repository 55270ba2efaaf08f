"""`fedrad-site stop`: ends whatever speaks for a site on this machine."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from fedrad.client.policy.membership import RUNNING
from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.system.files import is_locked

from .family import Speaker, service_of, speakers

AT_ONCE_SECONDS = 10.0
"""Time that processes have to end by themselves if no round is waited for; then they are killed."""
KILLED_SECONDS = 10.0
"""Time after which a killed process must be gone."""


def stop(site: Site, *, now: bool) -> None:
    """End all processes that speak for a site on this machine; wait until the last has ended.

    A living service is asked to end, and finishes the round in hand unless `now`. Processes whose
    service is gone have no round in hand that may still leave: they are ended at once.

    Parameters
    ----------
    site
        The site.
    now
        Whether to abandon the current round. What does not end within `AT_ONCE_SECONDS`, because it
        hangs or is suspended, is killed.

    Raises
    ------
    SiteProblem
        If nothing speaks for this site on this machine, or something is left that cannot be ended.
    """
    running = site.state / RUNNING
    found = speakers(site.state)
    if not found and not _is_locked(running):
        running.unlink(missing_ok=True)
        raise SiteProblem("internal", f"{site.name}: no node of this site runs here")
    service = service_of(site.state)
    if not now and service in {speaker.pid for speaker in found}:
        _signal([service], signal.SIGTERM)
        # what is suspended (Ctrl-Z) gets no other signal, and would be waited for without end
        _signal([speaker.pid for speaker in found], signal.SIGCONT)
        while _lives(service, site.state):
            time.sleep(0.2)
    _end_at_once(site, speakers(site.state))


def _end_at_once(site: Site, found: list[Speaker]) -> None:
    """End processes, by force if they do not end, after what they have computed was revoked."""
    running = site.state / RUNNING
    service = service_of(site.state)
    running.unlink(missing_ok=True)  # from here on, no visit of theirs is recorded or sent
    pids = [speaker.pid for speaker in found]
    # A service ends its processes itself; SIGCONT, as one that is suspended gets no other signal.
    asked = [service] if service in pids else pids
    _signal(asked, signal.SIGINT)
    _signal(asked, signal.SIGCONT)
    began = time.monotonic()
    while (left := speakers(site.state)) or _is_locked(running):
        waited = time.monotonic() - began
        if waited > AT_ONCE_SECONDS + KILLED_SECONDS:
            raise SiteProblem("internal", _not_ended(site, left))
        if waited > AT_ONCE_SECONDS:
            _signal([speaker.pid for speaker in left], signal.SIGKILL)
        time.sleep(0.1)


def _not_ended(site: Site, left: list[Speaker]) -> str:
    if left:
        return (
            f"{site.name}: NOT stopped. These processes hang in the system (a disk that does not "
            f"answer?) and end when it answers: {'; '.join(map(str, left))}. Nothing leaves any "
            "more, as their answers are not sent"
        )
    return (
        f"{site.name}: NOT stopped. Its node runs where this command does not see it: as another "
        "user, in a container, or on another machine that shares the state folder. Stop it there"
    )


def _lives(pid: int, state: Path) -> bool:
    return any(speaker.pid == pid for speaker in speakers(state))


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_locked(running: Path) -> bool:
    try:
        return is_locked(running)
    except OSError as error:
        raise SiteProblem(
            "internal",
            f"{error.filename}: cannot be read ({error.strerror}); run this command as the user "
            "who runs the node",
        ) from error
