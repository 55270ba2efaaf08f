"""A site's membership in a federation. The site joins once; its state folder then holds:

membership.json      the coordinator's address, the site's name
coordinator-ca.crt   the authority that signs the coordinator's certificate
node.key             this node's private key; it is made here and never leaves
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.invitation import (
    Address,
    Invitation,
    InvitationError,
    InvitationId,
    JoinRequest,
)
from fedrad.exchange.names import Name
from fedrad.system.files import (
    JsonFile,
    UnreadableFileError,
    locked,
    replacing,
)
from fedrad.system.folders import make_folder

from .ledger import LEDGER, Ledger, check_ledger_is_there
from .node_key import KEY, key_file, openssh, read_key

RUNNING = "node.pid"
"""File in the state folder with the id of the node's process, which locks it while it runs."""


class _MembershipFile(BaseModel):
    """Content of membership.json."""

    site: Name
    address: Address
    invitation: InvitationId


@dataclass(frozen=True)
class Membership:
    """How this site reaches its coordinator.

    `address`: `HOST:PORT`. `ca`: certificate of the authority (PEM). `key`: file of the node's
    private key (`node_key`).
    """

    site: str
    address: str
    ca: Path
    key: Path

    @property
    def host(self) -> str:
        """The coordinator's host name or address."""
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The coordinator's port."""
        return int(self.address.rpartition(":")[2])


def read_membership(state: Path) -> Membership:
    """Read the membership from a state folder. Raises SiteProblem if the site has not joined."""
    content = _read_file(state)
    if content is None:
        raise SiteProblem(
            "internal", f"{state}: this site has not joined; `fedrad-site join INVITATION`"
        )
    membership = Membership(
        content.site, content.address, state / "coordinator-ca.crt", key_file(state)
    )
    for path in (membership.ca, membership.key):
        if not path.is_file():
            raise SiteProblem(
                "internal", f"{path}: is missing; join again with a new invitation and --new-key"
            )
    return membership


def join_federation(
    site: Site, invitation: Invitation, request_file: Path, *, new_key: bool = False
) -> JoinRequest:
    """Join a federation: make the node's key, store the membership, write the request.

    The same invitation, answered a second time, gets the same key. Another one needs a new key,
    which replaces the one that the coordinator may have admitted, so it must be asked for. All
    files are written before the first takes its place, so that a site whose second join fails still
    has its first membership. No node of the site may run meanwhile: it would work under two
    memberships. The ledger begins here, or goes on.

    Parameters
    ----------
    site
        The site that joins.
    invitation
        The coordinator's invitation.
    request_file
        File for the request, which the site sends to the coordinator.
    new_key
        Whether a site that has a key gets a new one if it answers another invitation.

    Returns
    -------
    JoinRequest
        The content of `request_file`.

    Raises
    ------
    SiteProblem
        If the invitation has expired or names another site, a node of this site runs,
        membership.json is damaged, the ledger was removed, or a file cannot be written; if there is
        a key of another invitation, and no new one was asked for.
    """
    try:
        invitation.check_date()
    except InvitationError as error:
        raise SiteProblem("internal", str(error)) from None
    if invitation.site != site.name:
        raise SiteProblem(
            "internal",
            f"the invitation is for {invitation.site!r}, and site.toml says name = {site.name!r}: "
            "they must be the same",
        )
    try:
        make_folder(site.state)
        with locked(site.state / RUNNING, wait=False):
            return _join(site, invitation, request_file, new_key)
    except BlockingIOError:
        raise SiteProblem(
            "internal", f"{site.name}: its node runs; `fedrad-site stop` first, then join"
        ) from None
    except OSError as error:
        raise SiteProblem(
            "internal", f"{error.filename}: cannot be written: {error.strerror}"
        ) from error


def _join(site: Site, invitation: Invitation, request_file: Path, new_key: bool) -> JoinRequest:
    state, file = site.state, key_file(site.state)
    before = _read_file(state)
    check_ledger_is_there(state)
    same = before is not None and before.invitation == invitation.id and file.is_file()
    if file.exists() and not same and not new_key:
        raise SiteProblem("internal", _has_a_key(site, invitation, before))
    membership = _MembershipFile(
        site=invitation.site, address=invitation.address, invitation=invitation.id
    )
    key = (
        read_key(file.read_bytes(), str(file)) if same else ec.generate_private_key(ec.SECP384R1())
    )
    request = JoinRequest.answer(invitation, key)
    with ExitStack() as files:  # they are replaced in reverse order: membership.json last
        new = files.enter_context(replacing(_path(state)))
        new.write_text(membership.model_dump_json(indent=1) + "\n", encoding="utf-8")
        new = files.enter_context(replacing(state / "coordinator-ca.crt"))
        new.write_text(invitation.ca_certificate, encoding="ascii")
        if not same:
            files.enter_context(replacing(state / KEY)).write_bytes(openssh(key))
        request.write(files.enter_context(replacing(request_file)))
        Ledger(state / LEDGER).note(
            {"kind": "membership", "coordinator": invitation.address, "invitation": invitation.id},
            first=True,
        )
    return request


def _has_a_key(site: Site, invitation: Invitation, before: _MembershipFile | None) -> str:
    joined = f"has joined {before.address}" if before else "has a node's key"
    return (
        f"{site.name}: {joined} already, so nothing was changed. A new key would replace the one "
        "of this node, which is lost then; whether the coordinator has admitted it is not known "
        f"here. The site is out of the federation until {invitation.address} has admitted the new "
        "key, as when it first joined. If that is what you want: `fedrad-site join --new-key`"
    )


def _path(state: Path) -> Path:
    return state / "membership.json"


def _read_file(state: Path) -> _MembershipFile | None:
    """Content of membership.json; None if there is none. Raises SiteProblem."""
    try:
        return JsonFile(_path(state), _MembershipFile).read()
    except UnreadableFileError as error:
        raise SiteProblem(
            "internal",
            f"{error}; restore it from a backup, or remove it and join with a new invitation and "
            "--new-key",
        ) from None
