"""`fedrad sites`: who was invited, admitted and revoked, and who is connected."""

from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from fedrad.flower.control import Control
from fedrad.server.federation.members import Member

from .folder import Coordinator


def show_members(folder: Path) -> None:
    """Print the members of a coordinator. Raises Refused where it was never started."""
    coordinator = Coordinator(folder)
    served = coordinator.served()
    members = coordinator.members().sites
    try:
        nodes = Control(coordinator.connection()).nodes()
        online = {node for node, status in nodes.values() if status == "online"}
    except httpx.HTTPError:
        online = None
    table = Table("site", "status", "since", "connected", title=f"Sites of {served.address}")
    for member in members:
        since = f"{member.since.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(member.site, _status(member), since, _connected(member, online))
    console = Console()
    console.print(table if members else "No site was invited yet: `fedrad invite SITE`")
    if online is None:
        console.print("`fedrad serve` is not running: nobody is connected.", style="yellow")


def _status(member: Member) -> str:
    if member.status == "invited":
        return f"invited, until {member.expires:%Y-%m-%d}"
    return member.status


def _connected(member: Member, online: set[int] | None) -> str:
    if member.status != "admitted" or online is None:
        return ""
    return "yes" if member.node in online else "no"
