"""The coordinator's certificate authority, and the server certificates that it signs.

Hospitals trust the authority, whose certificate is part of the invitation. So a server certificate
can be renewed, or get other names, without new invitations.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedrad.deploy.refused import Refused
from fedrad.system.files import write_whole

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
"""Validity of a server certificate; the CA/Browser Forum allows at most 398 days."""
RENEW_DAYS = 30
"""Days before its end at which a server certificate is renewed."""
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""A key of a server's certificate; fedrad's own are of the first kind."""
CLOCKS = timedelta(hours=1)
"""Time by which certificates are backdated, because a hospital's clock may be slow."""


class Authority:
    """Certificate and key of the authority, `ca.crt` and `ca.key`; made if they do not exist.

    The key is read only to sign. Elsewhere it can be missing (kept offline) or locked.

    Parameters
    ----------
    folder
        Folder of the coordinator.
    passphrase
        Passphrase of the private keys in the folder; None if they have none.
    """

    def __init__(self, folder: Path, passphrase: bytes | None = None) -> None:
        self.certificate_file = folder / "ca.crt"
        self._key_file = folder / "ca.key"
        self._passphrase = passphrase
        if not self.certificate_file.is_file():
            self._make()

    def server_certificate(
        self,
        certificate: Path,
        key: Path,
        names: Sequence[str],
        *,
        now: datetime | None = None,
    ) -> bool:
        """Make a server certificate unless there is a valid one for these names.

        Parameters
        ----------
        certificate, key
            Files (PEM) to write.
        names
            Host names and IP addresses; the first is the subject.
        now
            The time; default: this machine's.

        Returns
        -------
        bool
            Whether it was made. An existing one is kept if it has exactly these names and more than
            RENEW_DAYS left.

        Raises
        ------
        Refused
            If it must be made, and the authority's key is not here or its passphrase is wrong.
        """
        now = now or datetime.now(UTC)
        if certificate.is_file() and key.is_file() and _is_valid(certificate, names, now):
            return False
        authority_key = self._key()
        server_key = ec.generate_private_key(ec.SECP384R1())
        signed = (
            _builder(names[0], now, SERVER_DAYS)
            .issuer_name(self._certificate().subject)
            .public_key(server_key.public_key())
            .add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                critical=False,
            )
            .sign(authority_key, hashes.SHA384())
        )
        write_whole(key, _pem(server_key, self._passphrase))
        write_whole(certificate, signed.public_bytes(Encoding.PEM))
        return True

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        builder = _builder("fedrad coordinator", datetime.now(UTC), AUTHORITY_DAYS)
        usage = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        certificate = (
            builder.issuer_name(_name("fedrad coordinator"))
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA384())
        )
        write_whole(self._key_file, _pem(key, self._passphrase))
        write_whole(self.certificate_file, certificate.public_bytes(Encoding.PEM))

    def _certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    def _key(self) -> PrivateKey:
        return read_key(self._key_file, self._passphrase)


def read_key(file: Path, passphrase: bytes | None) -> PrivateKey:
    """A private key (PEM), which needs no passphrase or has this one. Raises Refused."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise Refused(
            f"{file}: cannot be read ({error.strerror}). If the key is kept elsewhere, put it "
            "there while a certificate is made"
        ) from None
    try:
        key = load_pem_private_key(content, passphrase if is_locked(content) else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        why = (
            "the passphrase is wrong" if is_locked(content) and passphrase else "no key, or locked"
        )
        raise Refused(f"{file}: cannot be read: {why}") from None
    return key  # type: ignore[return-value]  # of any kind that TLS knows


def is_locked(content: bytes) -> bool:
    """Whether a private key (PEM) has a passphrase."""
    return b"ENCRYPTED" in content


def set_passphrase(file: Path, before: bytes | None, after: bytes | None) -> None:
    """Store a private key with another passphrase, or none. Raises Refused."""
    write_whole(file, _pem(read_key(file, before), after))


def certificate_names(certificate: Path) -> set[str]:
    """Host names and IP addresses of a certificate."""
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    try:
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return {*names.get_values_for_type(x509.DNSName), *addresses}


def end_of(certificate: Path) -> datetime:
    """When a certificate ends."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc


def _is_valid(certificate: Path, names: Sequence[str], now: datetime) -> bool:
    is_long_enough = end_of(certificate) - now > timedelta(days=RENEW_DAYS)
    return is_long_enough and certificate_names(certificate) == set(names)


def _builder(name: str, now: datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
