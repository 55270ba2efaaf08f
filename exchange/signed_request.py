"""The header with which a node signs each of its requests to the coordinator.

Flower's own signature covers the time of a request only. This one covers all of it, so that nobody
who sees a request can send another one in its name, and none can be sent twice.

    fedrad-request: FORMAT;KEY;TIME;NONCE;SHA256;LENGTH;RELEASE;SIGNATURE

The node signs, with ECDSA over P-384 and SHA-384, the bytes

    fedrad-request
    METHOD PATH
    FORMAT;KEY;TIME;NONCE;SHA256;LENGTH;RELEASE

in three lines without a line break at the end. The address of the coordinator is not signed: the
certificate says who it is, and it may have several names.
"""

import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HEADER = "fedrad-request"
FORMAT = 1
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_FIELDS = re.compile(
    r"(?P<format>[0-9]{1,3});(?P<key>[0-9a-f]{32});"
    r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z);"
    r"(?P<nonce>[0-9a-f]{32});(?P<sha256>[0-9a-f]{64});(?P<length>[0-9]{1,12});"
    r"(?P<release>[!-:<-~]{1,120});(?P<signature>[A-Za-z0-9+/=]{1,200})"
)
_ALGORITHM = ec.ECDSA(hashes.SHA384())


class SignedRequestError(Exception):
    """A header is no signature of fedrad, or not the signature of this request. The text says
    which."""


@dataclass(frozen=True)
class SignedRequest:
    """What the header of a request states.

    Attributes
    ----------
    key
        Id of the key that signed, as `key_id` gives it.
    signed_at
        Time of the signature, by the node's clock.
    nonce
        128 random bits, in hexadecimal: another one in each request.
    sha256, length
        SHA-256 (hexadecimal) and number of bytes of the body.
    release
        Version and hash of the fedrad that runs at the site.
    """

    key: str
    signed_at: datetime
    nonce: str
    sha256: str
    length: int
    release: str
    _fields: str
    _signature: bytes

    @classmethod
    def read(cls, header: bytes) -> Self:
        """Read a header. Nothing of it is verified. Raises SignedRequestError."""
        text = header.decode("latin-1")
        match = _FIELDS.fullmatch(text)
        if match is None:
            raise SignedRequestError(f"{HEADER}: not understood")
        if int(match["format"]) != FORMAT:
            raise SignedRequestError(
                f"{HEADER}: has format {int(match['format'])} and not {FORMAT}; site and "
                "coordinator need the same release of fedrad"
            )
        try:
            signed_at = datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC)
            signature = b64decode(match["signature"], validate=True)
        except (ValueError, Base64Error):
            raise SignedRequestError(f"{HEADER}: not understood") from None
        return cls(
            match["key"],
            signed_at,
            match["nonce"],
            match["sha256"],
            int(match["length"]),
            match["release"],
            text.rpartition(";")[0],
            signature,
        )

    def verify(self, key: ec.EllipticCurvePublicKey, method: str, path: str) -> None:
        """Verify that a key signed a request like this to a path. Raises SignedRequestError."""
        try:
            key.verify(self._signature, _signed(method, path, self._fields), _ALGORITHM)
        except InvalidSignature:
            raise SignedRequestError(
                f"{HEADER}: is not the signature of this request by this key"
            ) from None


def sign_request(
    key: ec.EllipticCurvePrivateKey,
    method: str,
    path: str,
    body: bytes,
    *,
    release: str,
    now: datetime | None = None,
) -> str:
    """The header of a request.

    Parameters
    ----------
    key
        The node's private key.
    method, path
        Of the request; the path without the host.
    body
        The whole body.
    release
        Version and hash of fedrad.
    now
        Time of the signature; None: now.

    Returns
    -------
    str
        The value of the header.
    """
    fields = ";".join(
        (
            str(FORMAT),
            key_id(key.public_key()),
            (now or datetime.now(UTC)).astimezone(UTC).strftime(_TIME),
            secrets.token_hex(16),
            sha256(body).hexdigest(),
            str(len(body)),
            release,
        )
    )
    signature = key.sign(_signed(method, path, fields), _ALGORITHM)
    return f"{fields};{b64encode(signature).decode('ascii')}"


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Id of a public key: the first 128 bits of its SHA-256 (DER), in hexadecimal."""
    content = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(content).hexdigest()[:32]


def _signed(method: str, path: str, fields: str) -> bytes:
    return f"{HEADER}\n{method} {path}\n{fields}".encode("latin-1")
