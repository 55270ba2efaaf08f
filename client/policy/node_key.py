"""The node's private key: by it the coordinator knows this hospital.

`join` makes it in the state folder (`node.key`). It can have a passphrase, or it can be kept by
systemd as the credential `node.key` instead. Flower reads a key from a file and knows no
passphrase, so the node gets it in memory.
"""

from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from fedrad.client.problems import SiteProblem
from fedrad.system.files import write_whole
from fedrad.system.secrets import credential, passphrase

KEY = "node.key"
"""Name of the key's file in the state folder, and of the credential."""
PASSPHRASE = "node.passphrase"
"""Name of the credential with the key's passphrase."""
_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"

AskPassphrase = Callable[[], bytes]


def ask() -> bytes:
    """The passphrase of the key, from systemd or the terminal. Raises SecretError."""
    return passphrase(PASSPHRASE, "the node's key")


def key_file(state: Path) -> Path:
    """Where the key is: the credential, if systemd gave one, or the file in the state folder."""
    return credential(KEY) or state / KEY


def has_passphrase(file: Path) -> bool:
    """Whether a key's file is encrypted. Raises OSError."""
    return file.read_bytes().lstrip().startswith(_ENCRYPTED)


def read_key(content: bytes, what: str, ask: AskPassphrase = ask) -> ec.EllipticCurvePrivateKey:
    """A node's private key.

    Parameters
    ----------
    content
        PEM: of OpenSSH, as `join` writes it, or of PKCS #8 with or without a passphrase.
    what
        Name of the file, for errors.
    ask
        Called if the key has a passphrase.

    Returns
    -------
    ec.EllipticCurvePrivateKey
        The key.

    Raises
    ------
    SiteProblem
        If it is no such key, or the passphrase is wrong.
    SecretError
        If no passphrase was given.
    """
    encrypted = content.lstrip().startswith(_ENCRYPTED)
    secret = ask() if encrypted else None
    try:
        load = load_ssh_private_key if b"OPENSSH" in content[:64] else load_pem_private_key
        key = load(content, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        why = "the passphrase is wrong" if encrypted else "it is no key of a node"
        raise SiteProblem("internal", f"{what}: cannot be read: {why}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise SiteProblem("internal", f"{what}: it is no key of a node, which is ECDSA over P-384")
    return key


def openssh(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as Flower reads it, without a passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def set_passphrase(state: Path, secret: bytes | None, ask: AskPassphrase = ask) -> None:
    """Give the key in the state folder a passphrase, another one, or none.

    Parameters
    ----------
    state
        The site's state folder.
    secret
        The new passphrase; None for none.
    ask
        Gives the passphrase that it has now.

    Raises
    ------
    SiteProblem
        If there is no key, it cannot be read or written, or the passphrase is wrong.
    SecretError
        If no passphrase was given.
    """
    file = state / KEY
    try:
        key = read_key(file.read_bytes(), str(file), ask)
        if secret is None:
            write_whole(file, openssh(key))
            return
        protection = BestAvailableEncryption(secret)
        write_whole(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    except OSError as error:
        raise SiteProblem("internal", f"{file}: {error.strerror}") from error
