"""Two small files that coordinator and hospital exchange before they are connected.

The coordinator's *invitation* holds its address and its certificate. The hospital answers with a
*request*, which holds the public half of a key made at the hospital. Neither file is secret, and
both may be sent by mail. Each has a fingerprint that is read out by telephone, so that a file that
was replaced on the way is noticed.
"""

import json
import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from errno import EFBIG
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)
from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, field_validator

from fedrad.system.errors import UserError
from fedrad.system.files import read_regular, write_whole

from .names import Name
from .wire import Wire

LARGEST_FILE = 64 * 1024
"""Largest size of such a file, in bytes."""
Address = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?:\d{1,5}$")
]
"""`HOST:PORT` of a coordinator; the host is a name or an IPv4 address."""
InvitationId = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]


class InvitationError(UserError):
    """A file is not a valid invitation or request; the text says why."""


class _ExchangedFile(Wire):
    """What the two files have in common."""

    def fingerprint(self) -> str:
        """The first 128 bits of the SHA-256 of its content, in eight groups to be read out."""
        digest = sha256(self._canonical()).hexdigest()[:32]
        return " ".join(re.findall("....", digest))

    def write(self, path: Path) -> None:
        """Write it to a file. Raises OSError."""
        write_whole(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it from a file. Raises InvitationError."""
        kind = cls.model_fields["kind"].default
        try:
            return cls.model_validate_json(read_regular(path, LARGEST_FILE))
        except OSError as error:
            why = "cannot be read" if error.errno != EFBIG else f"no {kind} of fedrad"
            raise InvitationError(f"{path}: {why}: {error.strerror}") from None
        except ValidationError as error:
            fields = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors()}))
            raise InvitationError(
                f"{path}: no {kind} of fedrad, or a damaged one"
                + (f" ({fields})" if fields else "")
            ) from None

    def _canonical(self) -> bytes:
        return json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()


class Invitation(_ExchangedFile):
    """The coordinator's file for one hospital."""

    kind: Literal["invitation"] = "invitation"
    format: Literal[1] = 1
    id: InvitationId
    site: Name
    """Name of the hospital in the federation."""
    address: Address
    ca_certificate: str = Field(max_length=8192)
    """Certificate, as PEM, of the authority that signed the coordinator's certificate."""
    expires: AwareDatetime
    """Until when it can be answered. A hospital that has joined remains a member after that."""

    @field_validator("ca_certificate")
    @classmethod
    def _is_a_certificate(cls, text: str) -> str:
        x509.load_pem_x509_certificate(text.encode())
        return text

    def check_date(self, now: datetime | None = None) -> None:
        """Raise InvitationError if the invitation has expired."""
        if (now or datetime.now(UTC)) > self.expires:
            raise InvitationError(
                f"the invitation for {self.site} expired on {self.expires:%d %B %Y}: ask the "
                "coordinator for a new one (`fedrad invite`)"
            )


class JoinRequest(_ExchangedFile):
    """The hospital's answer to an invitation: its public key, signed with the private one."""

    kind: Literal["request"] = "request"
    format: Literal[1] = 1
    invitation: InvitationId
    site: Name
    public_key: Annotated[
        str, StringConstraints(pattern=r"^ecdsa-sha2-nistp384 [A-Za-z0-9+/=]{100,300}$")
    ]
    """ECDSA over P-384, as OpenSSH writes it."""
    signature: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/=]{50,200}$")]
    """Signature of all other fields, in base64. It proves that the sender has the private key."""

    @classmethod
    def answer(cls, invitation: Invitation, key: ec.EllipticCurvePrivateKey) -> Self:
        """Answer an invitation with a key."""
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        unsigned = cls.model_construct(
            invitation=invitation.id, site=invitation.site, public_key=public, signature=""
        )
        signature = b64encode(key.sign(unsigned._signed(), ec.ECDSA(hashes.SHA384()))).decode()
        return cls(
            invitation=invitation.id, site=invitation.site, public_key=public, signature=signature
        )

    def check_signature(self) -> None:
        """Raise InvitationError if the request was not signed with the key in it."""
        try:
            key = load_ssh_public_key(self.public_key.encode())
            assert isinstance(key, ec.EllipticCurvePublicKey)
            key.verify(b64decode(self.signature), self._signed(), ec.ECDSA(hashes.SHA384()))
        except (
            ValueError,
            AssertionError,
            NotImplementedError,  # a point of the curve that is compressed
            UnsupportedAlgorithm,
            InvalidSignature,
        ):
            raise InvitationError(
                f"the request of {self.site} was not signed with the key in it: it was changed or "
                "damaged on the way; ask the hospital to send it again"
            ) from None

    def _signed(self) -> bytes:
        content = self.model_dump(mode="json", exclude={"signature"})
        return json.dumps(content, sort_keys=True).encode()
