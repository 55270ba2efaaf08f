"""`fedrad sites`: the list of sites, with their status and connection."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedrad.server.federation.members import Member
from fedrad.system.ports import listens_at

from .folder import Coordinator


def show_members(folder: Path) -> None:
    """Print the members of a coordinator. Raises Refused if it was never started."""
    coordinator = Coordinator(folder)
    settings = coordinator.settings()
    members = coordinator.members().sites
    online = _online(coordinator)
    table = Table("site", "status", "since", "connected", title=f"Sites of {settings.address}")
    for member in members:
        since = f"{member.since.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(member.site, _status(member), since, _connected(member, online))
    console = Console()
    console.print(table if members else "No site was invited yet: `fedrad invite SITE`")
    if online is None:
        console.print("`fedrad serve` is not running: nobody is connected.", style="yellow")


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
