"""The keys that the gate accepts: those of the members that are admitted now."""

import logging
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from fedrad.exchange.signed_request import key_id
from fedrad.flower.control import key_bytes
from fedrad.server.federation.members import Member, Members, MembersError

log = logging.getLogger("fedrad.gate")


class NobodyIsKnownError(Exception):
    """The list of members cannot be read, so nobody is let in."""


@dataclass(frozen=True)
class KnownKey:
    """The key of an admitted site.

    Attributes
    ----------
    id
        As in the header of a signed request.
    in_flower
        The key in Flower's format.
    node
        Number of the site's node; None if Flower was not told of it yet.
    """

    site: str
    id: str
    key: ec.EllipticCurvePublicKey
    in_flower: bytes
    node: int | None


class KnownKeys:
    """The keys of the list of members, read again when the file changes.

    Parameters
    ----------
    members
        File with the list of members.
    """

    def __init__(self, members: Path) -> None:
        self._file = members
        self._read_at: tuple[int, ...] | None = None
        self._keys: dict[str, KnownKey] = {}
        self._fault = ""

    def find(self, key: str) -> KnownKey | None:
        """The key with an id; None if no site with it is admitted. Raises NobodyIsKnownError."""
        return self.all().get(key)

    def all(self) -> dict[str, KnownKey]:
        """Id -> key of each admitted site. Raises NobodyIsKnownError."""
        try:
            state = self._file.stat()
            now = (state.st_mtime_ns, state.st_size, state.st_ino)
            if now != self._read_at:
                members = Members.read(self._file)
                self._keys = {k.id: k for k in map(_known, members.admitted()) if k is not None}
                self._read_at, self._fault = now, ""
        except (OSError, MembersError) as error:
            self._read_at, self._keys = None, {}
            if str(error) != self._fault:
                self._fault = str(error)
                log.error("nobody is let in until this is mended: %s", error)
            raise NobodyIsKnownError from error
        return self._keys


def _known(member: Member) -> KnownKey | None:
    if member.public_key is None:
        return None
    try:
        key = load_ssh_public_key(member.public_key.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError
    except ValueError:
        log.error("%s: its key in the list of members cannot be read", member.site)
        return None
    return KnownKey(member.site, key_id(key), key, key_bytes(member.public_key), member.node)
