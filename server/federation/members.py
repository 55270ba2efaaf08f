"""Who may take part: the sites that the coordinator invited, admitted and revoked."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from fedrad.exchange.experiment import Name
from fedrad.exchange.invitation import Id


class MembersError(Exception):
    """The list of members cannot be used, or a change of it makes no sense; the text says why."""


class Member(BaseModel):
    """One invited site. `node` is its number in Flower, once it has been let in there."""

    site: Name
    invitation: Id
    invited: AwareDatetime
    expires: AwareDatetime
    status: Literal["invited", "admitted", "revoked"] = "invited"
    since: AwareDatetime
    """When it came to its status."""
    public_key: str | None = None
    """Of its node, as OpenSSH writes it."""
    node: int | None = None

    def becomes(self, status: Literal["admitted", "revoked"], now: datetime) -> None:
        """Change the status."""
        self.status, self.since = status, now


class Members(BaseModel):
    """The list, kept in a file that a person can read. All changes go through `changed`."""

    format: Literal[1] = 1
    sites: list[Member] = Field(default_factory=list)
    """In the order of invitation; a site that was revoked and invited again is there twice."""

    @classmethod
    def read(cls, path: Path) -> "Members":
        """The list of a file; empty where there is none. Raises MembersError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except (ValidationError, OSError) as error:
            raise MembersError(
                f"{path}: cannot be read ({type(error).__name__}); restore it from a backup"
            ) from None

    @classmethod
    @contextmanager
    def changed(cls, path: Path) -> "Iterator[Members]":
        """The list, to be changed: one process at a time, written whole when the block ends."""
        with path.with_name(path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            members = cls.read(path)
            yield members
            part = path.with_name(path.name + ".part")
            part.write_text(members.model_dump_json(indent=1) + "\n", encoding="utf-8")
            part.replace(path)

    def current(self, site: str) -> Member | None:
        """The latest entry of a site that is not revoked."""
        entries = (m for m in reversed(self.sites) if m.site == site and m.status != "revoked")
        return next(entries, None)

    def admitted(self) -> list[Member]:
        """All that may take part."""
        return [member for member in self.sites if member.status == "admitted"]

    def site_of(self, node: int) -> str | None:
        """The name under which a node was admitted."""
        return next((member.site for member in self.admitted() if member.node == node), None)
