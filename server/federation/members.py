"""The list of members: sites that the coordinator invited, admitted or revoked."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field

from fedrad.exchange.invitation import InvitationId
from fedrad.exchange.names import Name
from fedrad.system.files import JsonFile, UnreadableFileError, locked


class MembersError(Exception):
    """The list of members cannot be used or changed like this. The text gives the reason."""


class Member(BaseModel):
    """One invited site. `node` is its number in Flower after its admission."""

    site: Name
    invitation: InvitationId
    invited: AwareDatetime
    expires: AwareDatetime
    status: Literal["invited", "admitted", "revoked"] = "invited"
    since: AwareDatetime
    """Time of the last change of status."""
    public_key: str | None = None
    """Public key of the node, in OpenSSH format."""
    node: int | None = None

    def becomes(self, status: Literal["admitted", "revoked"], now: datetime) -> None:
        """Change the status."""
        self.status, self.since = status, now


class Members(BaseModel):
    """The list of members, in a file that a person can read. Use `changed` for every change."""

    format: Literal[1] = 1
    sites: list[Member] = Field(default_factory=list)
    """In the order of invitation. A site that was revoked and invited again has two entries."""

    @classmethod
    def read(cls, path: Path) -> "Members":
        """Read the list. Raises MembersError if it is missing or damaged."""
        with _readable():
            members = JsonFile(path, cls).read()
        if members is None:
            raise _missing(path)
        return members

    @classmethod
    def make(cls, path: Path) -> None:
        """Write an empty list, for a new coordinator. A list that exists stays as it is. Raises
        MembersError and OSError."""
        with _readable(), locked(path):
            file = JsonFile(path, cls)
            if file.read() is None:
                file.write(cls())

    @classmethod
    @contextmanager
    def changed(cls, path: Path) -> "Iterator[Members]":
        """Open the list for a change, by one process at a time. It is written when the block ends.
        Raises MembersError if it is missing or damaged."""

        def missing() -> Members:
            raise _missing(path)

        with _readable(), JsonFile(path, cls).changed(missing) as members:
            yield members

    def current(self, site: str) -> Member | None:
        """The latest entry of a site that is not revoked."""
        entries = (m for m in reversed(self.sites) if m.site == site and m.status != "revoked")
        return next(entries, None)

    def admitted(self) -> list[Member]:
        """The members that may take part."""
        return [member for member in self.sites if member.status == "admitted"]

    def site_of(self, node: int) -> str | None:
        """The name under which a node was admitted."""
        return next((member.site for member in self.admitted() if member.node == node), None)


def _missing(path: Path) -> MembersError:
    """An empty list in its place would turn all members away."""
    return MembersError(f"{path}: is missing; restore it from a backup")


@contextmanager
def _readable() -> Iterator[None]:
    """Raise MembersError, which says what to do, for a file that cannot be read."""
    try:
        yield
    except UnreadableFileError as error:
        raise MembersError(f"{error}; restore it from a backup") from None
