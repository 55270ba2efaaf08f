"""`fedrad sites`: the list of sites, with their status and connection."""

from datetime import datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from fedrad.exchange.clocks import difference
from fedrad.server.federation.members import Member
from fedrad.system.ports import listens_at
from fedrad.system.release import release, short_release
from fedrad.system.terminal import PlainConsole

from .folder import Coordinator
from .seen import SeenSite, read_seen

CLOCK_SECONDS = 30.0
"""A clock that is off by less is as it should be."""


def show_members(folder: Path) -> None:
    """Print the members of a coordinator. Raises Refused if it was never started."""
    coordinator = Coordinator(folder)
    settings = coordinator.settings()
    members = coordinator.members().sites
    online = _online(coordinator)
    seen = read_seen(coordinator.folder).sites
    table = Table(
        "site",
        "status",
        "since",
        "connected",
        "last seen",
        "release",
        title=f"Sites of {settings.address}",
        caption=f"here: {short_release(release())}" if members else None,
    )
    for member in members:
        heard = seen.get(member.site) if member.status == "admitted" else None
        table.add_row(
            member.site,
            _status(member),
            _moment(member.since),
            _connected(member, online),
            _moment(heard.at) if heard else "",
            _release(heard) if heard else "",
        )
    console = PlainConsole()
    console.print(table if members else "No site was invited yet: `fedrad invite SITE`")
    for site in sorted({member.site for member in members if member.status == "admitted"}):
        if site in seen and (words := _clock(seen[site])):
            console.print(f"{site}: {words}", style="yellow")
    if online is None:
        console.print("`fedrad serve` is not running: nobody is connected.", style="yellow")


def _release(heard: SeenSite) -> Text:
    """The release that a site states: whole, and as text, as it is the site's own word."""
    return Text(short_release(heard.release), overflow="fold")


def _moment(when: datetime) -> str:
    return f"{when.astimezone():%Y-%m-%d %H:%M}"


def _clock(heard: SeenSite) -> str:
    """A sentence about a site's clock; empty if it is as it should be."""
    if abs(heard.clock) < CLOCK_SECONDS:
        return ""
    so = ", and its requests are refused" if heard.refused else ""
    return (
        f"its clock is {difference(heard.clock)} this machine's{so}. One of the two is wrong: set "
        "it (NTP)"
    )


def _online(coordinator: Coordinator) -> set[int] | None:
    """Ids of the connected nodes; None if `fedrad serve` is not running.

    Flower's client is slow to import, so it is imported only if something listens at the socket.
    """
    if not listens_at(coordinator.socket):
        return None
    import httpx

    from fedrad.flower.control import Control

    try:
        nodes = Control(coordinator.socket).nodes()
    except httpx.HTTPError:
        return None
    return {node for node, status in nodes.values() if status == "online"}


def _status(member: Member) -> str:
    if member.status == "invited":
        return f"invited, until {member.expires:%Y-%m-%d}"
    return member.status


def _connected(member: Member, online: set[int] | None) -> str:
    if member.status != "admitted" or online is None:
        return ""
    return "yes" if member.node in online else "no"
