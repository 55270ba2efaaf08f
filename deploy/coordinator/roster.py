"""`fedrad sites`: who was invited, admitted and revoked, and who is connected."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedrad.server.federation.members import Member
from fedrad.system.ports import listens

from .folder import Coordinator, Served


def show_members(folder: Path) -> None:
    """Print the members of a coordinator. Raises Refused where it was never started."""
    coordinator = Coordinator(folder)
    served = coordinator.served()
    members = coordinator.members().sites
    online = _online(coordinator, served)
    table = Table("site", "status", "since", "connected", title=f"Sites of {served.address}")
    for member in members:
        since = f"{member.since.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(member.site, _status(member), since, _connected(member, online))
    console = Console()
    console.print(table if members else "No site was invited yet: `fedrad invite SITE`")
    if online is None:
        console.print("`fedrad serve` is not running: nobody is connected.", style="yellow")


def _online(coordinator: Coordinator, served: Served) -> set[int] | None:
    """Numbers of the nodes that are connected; None where `fedrad serve` is not running.

    Flower's client takes longer to import than all the rest of the command: it is imported only
    where something listens at the port.
    """
    if not listens(served.control_port):
        return None
    import httpx

    from fedrad.flower.control import Control

    try:
        nodes = Control(coordinator.connection()).nodes()
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
