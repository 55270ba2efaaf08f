"""The coordinator's folder: settings, certificates, and the list of members.

coordinator.json      address, names, ports
ca.crt, ca.key        certificate authority that hospitals trust
server.crt, .key      certificate of the listener for hospitals
superlink.sock        socket of the SuperLink, for the commands of this user
members.json          sites that were invited, admitted or revoked
seen.json             when each site was last heard, with which release and clock
superlink.db, logs/   state and log of the SuperLink
"""

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from fedrad.deploy.refused import Refused
from fedrad.exchange.invitation import Address, Invitation, InvitationError, JoinRequest
from fedrad.exchange.names import Name, fault_of_site
from fedrad.server.federation.members import Member, Members, MembersError
from fedrad.system.files import JsonFile, UnreadableFileError, locked
from fedrad.system.folders import make_folder, state_home
from fedrad.system.private import privacy_fault

from .authority import Authority, certificate_names, end_of
from .settings import CoordinatorSettings, check_certificate

ALL_ADDRESSES = "0.0.0.0"
log = logging.getLogger("fedrad.server")
LOOPBACK_NAMES = ("localhost", "127.0.0.1")


def default_folder() -> Path:
    """Default folder of a coordinator: in the user's state folder."""
    return state_home() / "coordinator"


class Serving(BaseModel):
    """The process of `fedrad serve` that uses a folder."""

    process: int
    since: datetime


class Coordinator:
    """A coordinator, stored in a folder. `passphrase`: of its private keys, if they have one."""

    def __init__(self, folder: Path, passphrase: bytes | None = None) -> None:
        self.folder = folder
        self.passphrase = passphrase
        self._file = JsonFile(folder / "coordinator.json", CoordinatorSettings)
        self.members_file = folder / "members.json"
        self.socket = folder / "superlink.sock"
        self._serving = JsonFile(folder / "serve.json", Serving)

    def members(self) -> Members:
        """The list of members. Raises Refused if it cannot be read."""
        try:
            return Members.read(self.members_file)
        except MembersError as error:
            raise Refused(str(error)) from error

    @contextmanager
    def edit_members(self) -> Iterator[Members]:
        """The list of members, locked, and written at the end. Raises Refused."""
        try:
            with Members.changed(self.members_file) as members:
                yield members
        except MembersError as error:
            raise Refused(str(error)) from error

    @property
    def authority(self) -> Authority:
        """The certificate authority; made if there is none."""
        return Authority(self.folder, self.passphrase)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Make sure that one `fedrad serve` at a time uses this folder, and that other users of
        the machine cannot reach into it. Raises Refused."""
        make_folder(self.folder)
        if fault := privacy_fault(self.folder, entries=True, above=True, advice=" (--coordinator)"):
            raise Refused(fault)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._file.path, wait=False))
            except BlockingIOError:
                raise Refused(
                    f"{self.folder}: another `fedrad serve` is running with this folder"
                    f"{self._who_serves()}; end that one first"
                ) from None
            yield

    def note_serving(self) -> None:
        """Write down that this process serves, for those who find the folder in use."""
        self._serving.write(Serving(process=os.getpid(), since=datetime.now(UTC)))

    def _who_serves(self) -> str:
        try:
            serving = self._serving.read()
        except UnreadableFileError:
            serving = None
        if serving is None:
            return ""
        return f" (process {serving.process}, since {serving.since.astimezone():%Y-%m-%d %H:%M})"

    def set_up(
        self,
        address: str | None,
        *,
        listen: str | None,
        names: list[str],
        own: tuple[Path, Path, Path] | None,
        check: Callable[[CoordinatorSettings], None] = lambda settings: None,
    ) -> CoordinatorSettings:
        """Make the folder on the first start, or change its settings.

        Parameters
        ----------
        address
            `HOST:PORT` for hospitals; None: as before.
        listen
            IP address at which to listen; None: as before, and all at first.
        names
            Further names of the server certificate; empty: as before.
        own
            Files of a certificate, its private key and its authority, instead of fedrad's; None: as
            before.
        check
            Raises Refused if the new settings cannot be used; nothing is written then.

        Returns
        -------
        CoordinatorSettings
            The new settings.

        Raises
        ------
        Refused
            If an option is missing or wrong, or the list of members is missing or damaged.
        """
        before = self._read()
        address = address or (before.address if before else None)
        if address is None:
            raise Refused(
                "--address HOST:PORT is needed on the first start: the name under which hospitals "
                "reach this machine, for example coordinator.example.org:8000"
            )
        try:
            TypeAdapter(Address).validate_python(address)
        except ValidationError:
            raise Refused(f"--address {address}: write HOST:PORT") from None
        host, _, port = address.rpartition(":")
        if own is not None:
            check_certificate(host, own)
        files = own or ((before.certificate, before.key, before.ca) if before else (None,) * 3)
        certificate, key, ca = (file.resolve() if file else None for file in files)
        settings = CoordinatorSettings(
            address=address,
            listen=listen or (before.listen if before else ALL_ADDRESSES),
            port=int(port),
            names=names or (before.names if before else []),
            certificate=certificate,
            key=key,
            ca=ca,
        )
        if before is not None:
            self.members()  # an empty list in the place of a lost one would turn all members away
        check(settings)
        make_folder(self.folder)
        if before is None:
            self._make_members()
        self._file.write(settings)
        self.renew(settings)
        return settings

    def own_key(self) -> Path | None:
        """Key of the centre's own certificate; None if it uses fedrad's. Raises Refused."""
        before = self._read()
        return before.key if before else None

    def settings(self) -> CoordinatorSettings:
        """The settings. Raises Refused if the coordinator was never started."""
        settings = self._read()
        if settings is None:
            raise Refused(
                f"{self.folder}: no coordinator here; start it once with `fedrad serve --address "
                "HOST:PORT`, or give its folder as --coordinator"
            )
        return settings

    def renew(self, settings: CoordinatorSettings) -> bool:
        """Renew fedrad's certificate if it ends within RENEW_DAYS. Returns whether it did.

        Where the authority's key is kept offline, a certificate that is still valid is used.
        Raises Refused if there is none that is.
        """
        for name in ("control.crt", "control.key"):  # of earlier versions, for a port on loopback
            (self.folder / name).unlink(missing_ok=True)
        if settings.certificate is not None:
            return False
        host = settings.address.rpartition(":")[0]
        return self._renew("server", list(dict.fromkeys([host, *settings.names, *LOOPBACK_NAMES])))

    def _renew(self, name: str, names: Sequence[str]) -> bool:
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        try:
            return self.authority.server_certificate(certificate, key, names)
        except Refused as error:
            if not (certificate.is_file() and key.is_file()):
                raise
            if certificate_names(certificate) != set(names):
                raise
            if (end := end_of(certificate)) < datetime.now(UTC):
                raise
            log.warning("%s ends on %s and is not renewed: %s", certificate, end.date(), error)
            return False

    def invite(self, site: str, to: Path, *, days: float) -> Invitation:
        """Write an invitation for a site; it replaces one that was not answered yet.

        Parameters
        ----------
        site
            Name of the site.
        to
            New file.
        days
            Days in which the site can answer.

        Returns
        -------
        Invitation
            The content of the file.

        Raises
        ------
        Refused
            If the name is not allowed or looks like that of a site that was ever invited, the file
            exists, or the site is admitted already.
        """
        settings = self.settings()
        try:
            TypeAdapter(Name).validate_python(site)
        except ValidationError:
            raise Refused(f"{site!r} is no name: letters, digits, `.`, `_`, `-`") from None
        if why := fault_of_site(site, [member.site for member in self.members().sites]):
            raise Refused(f"{site!r} {why}")
        if to.exists():
            raise Refused(f"{to}: exists already; give another --to, or remove it")
        now = datetime.now(UTC).replace(microsecond=0)
        expires = now + timedelta(days=days)
        invitation = Invitation(
            id=secrets.token_hex(16),
            site=site,
            address=settings.address,
            expires=expires,
            ca_certificate=(settings.ca or self.authority.certificate_file).read_text("ascii"),
        )
        with _no_file_left(to), self.edit_members() as members:
            if (before := members.current(site)) and before.status == "admitted":
                raise Refused(
                    f"{site} is admitted already; `fedrad sites revoke {site}` first, if its key "
                    "is lost or another machine should take its place"
                )
            members.sites = [member for member in members.sites if member is not before]
            members.sites.append(
                Member(site=site, invitation=invitation.id, invited=now, expires=expires, since=now)
            )
            try:  # before the list is written, which makes an earlier invitation void
                invitation.write(to)
            except OSError as error:
                raise Refused(f"{to}: cannot be written: {error.strerror}") from error
        return invitation

    def is_invited(self, site: str) -> bool:
        """Whether a site has an invitation that it has not answered. Raises Refused."""
        self.settings()
        member = self.members().current(site)
        return member is not None and member.status == "invited"

    def read_request(self, file: Path) -> JoinRequest:
        """Read and check a site's request. Raises Refused unless it answers a valid invitation."""
        self.settings()
        try:
            request = JoinRequest.read(file)
            request.check_signature()
        except InvitationError as error:
            raise Refused(str(error)) from error
        self._invited(self.members(), request)
        return request

    def admit(self, request: JoinRequest) -> None:
        """Admit the site of a request; its node can connect within seconds. Raises Refused."""
        with self.edit_members() as members:
            member = self._invited(members, request)
            member.public_key = request.public_key
            member.becomes("admitted", datetime.now(UTC).replace(microsecond=0))

    def revoke(self, site: str) -> str:
        """Revoke a site or its invitation. Returns its status before. Raises Refused."""
        self.settings()
        with self.edit_members() as members:
            member = members.current(site)
            if member is None:
                raise Refused(f"{site}: neither invited nor admitted; `fedrad sites` lists all")
            was: str = member.status
            member.becomes("revoked", datetime.now(UTC).replace(microsecond=0))
        return was

    def _invited(self, members: Members, request: JoinRequest) -> Member:
        entries = (m for m in members.sites if m.invitation == request.invitation)
        member = next(entries, None)
        if member is None or member.site != request.site:
            raise Refused(f"{request.site}: answers no invitation of this coordinator")
        if member.status == "admitted":
            raise Refused(f"{member.site} is admitted already; an invitation is answered once")
        if member.status == "revoked":
            raise Refused(f"the invitation of {member.site} was revoked")
        if datetime.now(UTC) > member.expires:
            raise Refused(
                f"the invitation of {member.site} expired on {member.expires:%d %B %Y}: invite it "
                "again"
            )
        return member

    def _make_members(self) -> None:
        try:
            Members.make(self.members_file)
        except MembersError as error:
            raise Refused(str(error)) from error

    def _read(self) -> CoordinatorSettings | None:
        try:
            return self._file.read()
        except UnreadableFileError as error:
            raise Refused(str(error)) from error


@contextmanager
def _no_file_left(file: Path) -> Iterator[None]:
    """Remove a new file if the block raises."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            file.unlink()
        raise
