"""A site's membership in a federation. The site joins once; its state folder then holds:

membership.json      the coordinator's address, the site's name
coordinator-ca.crt   the authority that signs the coordinator's certificate
node.key             this node's private key; it is made here and never leaves
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)
from pydantic import BaseModel, ValidationError

from fedrad.client.problems import SiteProblem
from fedrad.client.settings import Site
from fedrad.exchange.experiment import Name
from fedrad.exchange.invitation import (
    Address,
    Invitation,
    InvitationError,
    InvitationId,
    JoinRequest,
)
from fedrad.system.files import write_whole


class _MembershipFile(BaseModel):
    """Content of membership.json."""

    site: Name
    address: Address
    invitation: InvitationId


@dataclass(frozen=True)
class Membership:
    """How this site reaches its coordinator.

    `address`: `HOST:PORT`. `ca`: certificate of the authority (PEM). `key`: the node's private key
    in the format of OpenSSH.
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
    file = state / "membership.json"
    try:
        content = _MembershipFile.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise SiteProblem(
            "internal", f"{state}: this site has not joined; `fedrad-site join INVITATION`"
        ) from None
    except (ValidationError, OSError) as error:
        raise SiteProblem("internal", f"{file}: cannot be read: {error}") from error
    membership = Membership(
        content.site, content.address, state / "coordinator-ca.crt", state / "node.key"
    )
    for path in (membership.ca, membership.key):
        if not path.is_file():
            raise SiteProblem("internal", f"{path}: is missing; join again with a new invitation")
    return membership


def join_federation(site: Site, invitation: Invitation, request_file: Path) -> JoinRequest:
    """Join a federation: make the node's key, store the membership, write the request.

    The same invitation, answered a second time, gets the same key.

    Parameters
    ----------
    site
        The site that joins.
    invitation
        The coordinator's invitation.
    request_file
        File for the request, which the site sends to the coordinator.

    Returns
    -------
    Request
        The content of `request_file`.

    Raises
    ------
    SiteProblem
        If the invitation has expired or names another site, or a file cannot be written.
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
    state, key_file = site.state, site.state / "node.key"
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _last_invitation(state) == invitation.id and key_file.is_file():
            key = _load_key(key_file)
        else:
            key = ec.generate_private_key(ec.SECP384R1())
            (state / "membership.json").unlink(missing_ok=True)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            write_whole(key_file, pem, private=True)
        request = JoinRequest.answer(invitation, key)
        request.write(request_file)
        write_whole(state / "coordinator-ca.crt", invitation.ca_certificate)
        membership = _MembershipFile(
            site=invitation.site, address=invitation.address, invitation=invitation.id
        )
        write_whole(state / "membership.json", membership.model_dump_json())
    except OSError as error:
        raise SiteProblem(
            "internal", f"{error.filename}: cannot be written: {error.strerror}"
        ) from error
    return request


def _last_invitation(state: Path) -> str | None:
    """Id of the invitation that was answered last; None without one."""
    try:
        return _MembershipFile.model_validate_json(
            (state / "membership.json").read_bytes()
        ).invitation
    except (OSError, ValidationError):
        return None


def _load_key(file: Path) -> ec.EllipticCurvePrivateKey:
    key = load_ssh_private_key(file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
